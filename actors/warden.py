"""The warden: the one actor per node that can really end processes, also those that answer nobody.

It needs no cooperation: it reads boards (files) and /proc. It says `killed` or `gone` only after it has seen that nothing is
left; everything else is `unverified`. It holds no state: started again, it finds everything again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path

from interlock.actors.board import SUFFIX, View, board_path, bound_in, ended_path, note_used, read, retire
from interlock.actors.ending import BOUND, KILLED, UNVERIFIED, Ending
from interlock.actors.memory import used_by
from interlock.actors.process import INCARNATION_MARK, TASK_MARK, Identity, Seen, alive, descendants, environment, marked
from interlock.schemas.sizes import told_size
from interlock.tools.scratch import remove_abandoned

_LOG = logging.getLogger(__name__)


class Warden:
    """`Processes` of the node it runs on, for all incarnations whose boards are in `run_dir`. `bound`: seconds for one ending."""

    def __init__(self, run_dir: Path, bound: float = BOUND) -> None:
        self._run_dir = run_dir
        self._ending = Ending(bound)

    async def holders(self, tasks: Sequence[str]) -> list[str]:
        return [name for name, board in self._living() if board.holds(*tasks)]

    async def strays(self, tasks: Sequence[str]) -> list[str]:
        found = []
        for name, board in self._living():
            since = board.since(*tasks)
            if since is not None and _unattributed(board.owner.pid, since):
                found.append(name)
        return found

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        names = list(incarnations)
        return dict(zip(names, await asyncio.gather(*map(self._end, names)), strict=True))

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        return await self._ending.run(lambda: marked(TASK_MARK, *tasks))

    async def end_children(self, incarnations: Iterable[str]) -> None:
        """End all that lives below these incarnations' own processes, and not these themselves."""
        await asyncio.gather(*(self._ending.run(lambda name=name: self.descendants(name)) for name in incarnations))  # type: ignore[misc]

    def descendants(self, incarnation: str) -> list[Identity]:
        """The living processes below an incarnation's own; none where that has ended."""
        board = read(board_path(self._run_dir, incarnation))
        if board is None or not alive(board.owner):
            return []
        return [seen.identity for seen in descendants(board.owner.pid)]

    async def watch(self, every: float = 0.2) -> AsyncGenerator[str, None]:
        """Each incarnation once, as soon as its process has ended and whatever it left running has been ended too. The scratch folders
        that it left are removed then. Who uses more memory than it may is ended here."""
        owners: dict[str, Identity] = {}
        told: set[str] = set()
        while True:
            names = {path.name.removesuffix(SUFFIX) for path in self._run_dir.glob(f"*{SUFFIX}")}
            owners = {name: owner for name, owner in owners.items() if name in names}
            for name in sorted(names - owners.keys()):
                if (board := read(board_path(self._run_dir, name))) is not None:
                    owners[name] = board.owner
            for name, owner in owners.items():
                if name not in told and not alive(owner):
                    ended = await self._end(name)
                    told.add(name)
                    yield name
                    if ended != UNVERIFIED:  # only now: whoever was told does not ask again after a restart of this process
                        retire(self._run_dir, name)
                    await asyncio.to_thread(remove_abandoned)
                elif name not in told:
                    await self._keep_in_bounds(name, owner)
            await asyncio.sleep(every)

    async def _keep_in_bounds(self, incarnation: str, owner: Identity) -> None:
        path = board_path(self._run_dir, incarnation)
        bound, used = bound_in(path), used_by(owner.pid)
        if 0 < bound < used:
            _LOG.warning("%s uses %s of %s and is ended", incarnation, told_size(used), told_size(bound))
            note_used(path, used)
            await self._end(incarnation)

    async def inquire(self, incarnation: str, tasks: Iterable[str]) -> tuple[dict[str, float], str] | None:
        """What a process of this node is doing, or was doing when it ended: see `Inquest`; None where nothing is known of it here."""
        board = read(board_path(self._run_dir, incarnation)) or read(ended_path(self._run_dir, incarnation))
        return None if board is None else (board.at_work(tasks), _why(board))

    def why(self, incarnation: str) -> str:
        """Why a process that has ended has done so, as far as one can see from here."""
        board = read(board_path(self._run_dir, incarnation)) or read(ended_path(self._run_dir, incarnation))
        return (board and _why(board)) or "its process ended"

    async def _end(self, incarnation: str) -> str:
        board = read(board_path(self._run_dir, incarnation))
        if board is None:
            # Without a board nobody knows which process it was: finding no mark proves nothing, unless it was seen to end before.
            seen = ended_path(self._run_dir, incarnation).exists()
            ended = await self._ending.run(lambda: marked(INCARNATION_MARK, incarnation))
            return ended if seen or ended == KILLED else UNVERIFIED
        if board.owner.pid in self._ending.spared and alive(board.owner):
            _LOG.warning("the warden runs inside %s and does not end itself", incarnation)
            return UNVERIFIED
        return await self._ending.run(lambda: marked(INCARNATION_MARK, incarnation), [board.owner])

    def _boards(self) -> list[tuple[str, View]]:
        boards = ((path.name.removesuffix(SUFFIX), read(path)) for path in sorted(self._run_dir.glob(f"*{SUFFIX}")))
        return [(name, board) for name, board in boards if board is not None]

    def _living(self) -> list[tuple[str, View]]:
        return [(name, board) for name, board in self._boards() if alive(board.owner)]


def _why(board: View) -> str:
    return f"it used {told_size(board.used)} of memory and may use {told_size(board.memory)}" if board.used else ""


class OwnProcess:
    """`Processes` of a bus that is one process. `holders` names who works for some tasks, by the boards. Nothing can be ended but what
    tools have started: a thread, or code that does not heed its cancellation, goes on until it ends by itself, and is `unverified`."""

    def __init__(self, holders: Callable[[Sequence[str]], list[str]]) -> None:
        self._holders = holders

    async def holders(self, tasks: Sequence[str]) -> list[str]:
        return self._holders(tasks)

    async def strays(self, tasks: Sequence[str]) -> list[str]:
        return []

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(incarnations, UNVERIFIED)

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        return await Ending().run(lambda: marked(TASK_MARK, *tasks))


def _unattributed(root: int, since: int) -> bool:
    """Whether a process below `root`, started at or after `since`, carries no task's mark, itself or from those above it."""
    owned: set[int] = set()
    for seen in descendants(root):
        if seen.parent in owned or _has_owner(seen):
            owned.add(seen.identity.pid)
        elif seen.identity.start >= since:
            return True
    return False


def _has_owner(seen: Seen) -> bool:
    found = environment(seen.identity.pid)
    return found is not None and bool(found.get(TASK_MARK))
