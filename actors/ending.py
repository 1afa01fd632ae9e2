"""To end process trees whole: nobody of them escapes by forking, by `setsid`, or by ignoring signals.

A tree is stopped from its root down, so that nobody is born meanwhile, and killed from its leaves up; then whoever left the
tree but carries its mark is looked for, until none is found. The answer is `killed` or `gone` only after nothing was left.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable

from interlock.actors.process import Identity, alive, ancestry, descendants, seen_again, send

_LOG = logging.getLogger(__name__)
_PAUSE = 0.002
_FREEZE_ROUNDS = 50

BOUND = 5.0
KILLED, GONE, UNVERIFIED = "killed", "gone", "unverified"


class Ending:
    """`bound`: seconds after which what still lives is `unverified`. This process and those above it are spared."""

    def __init__(self, bound: float = BOUND) -> None:
        self._bound = bound
        self.spared = ancestry(os.getpid())

    async def run(self, escaped: Callable[[], list[Identity]], roots: Iterable[Identity] = ()) -> str:
        """End `roots` and whoever `escaped` finds, each with its tree, until it finds nobody."""
        targets: set[Identity] = set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._bound
        while True:
            found = [root for root in {*roots, *escaped()} if root.pid not in self.spared and alive(root)]
            for root in found:
                targets |= await self._end_tree(root)
            if not found and not any(map(alive, targets)):
                return KILLED if targets else GONE
            if loop.time() > deadline:
                _LOG.error("still alive after SIGKILL: %s", sorted({*found, *filter(alive, targets)}))
                return UNVERIFIED
            await asyncio.sleep(_PAUSE)

    async def _end_tree(self, root: Identity) -> set[Identity]:
        tree = await self._freeze(root)
        for identity in reversed(tree):
            _signal(identity, signal.SIGKILL)
        return set(tree)

    async def _freeze(self, root: Identity) -> list[Identity]:
        """Stop the whole tree; parents come before children in what is returned."""
        tree = [root]
        _signal(root, signal.SIGSTOP)
        for _ in range(_FREEZE_ROUNDS):
            below = [seen.identity for seen in descendants(root.pid) if seen.identity.pid not in self.spared]
            new = [identity for identity in below if identity not in tree]
            for identity in new:
                _signal(identity, signal.SIGSTOP)
            tree += new
            # A signal takes effect a moment after it was sent: only a stopped process bears no more children.
            if not new and all(seen.stopped for seen in map(seen_again, tree) if seen is not None):
                break
            await asyncio.sleep(_PAUSE)
        return tree


def _signal(identity: Identity, number: signal.Signals) -> None:
    try:
        send(identity, number)
    except PermissionError:
        _LOG.error("process %s is not ours to signal", identity.pid)
