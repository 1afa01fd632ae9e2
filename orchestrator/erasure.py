"""What the ledger keeps of what tasks said, and for how long: erasing a task for good, pruning what its retention is over for.

Both are entries, and the store destroys in their own transaction: nothing is destroyed without a record of who wanted it, and no record
says so without it being done. A task that is live keeps all that it needs.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.ledger.reader import Reads
from interlock.schemas import entries as e
from interlock.schemas.bus_entries import RETENTION_AT_LEAST
from interlock.schemas.errors import RetentionTooShort, TaskLive, UnknownTask
from interlock.schemas.times import rfc3339
from interlock.schemas.undo import undoing_of

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

Wire = dict[str, Any]

CLEAN_SECONDS, _LOOK_SECONDS = 3.0, 0.02
"""How long who erases waits for the traces to go."""

_DAY = 86_400_000_000
_AT_ONCE = 20


class Erasure:
    """One engine's calls about that. `reads` answers from what is durable."""

    def __init__(self, engine: "Engine", reads: Reads) -> None:
        self._engine, self._reads = engine, reads
        self._turn = asyncio.Lock()

    async def erase(self, task: str, by: str, why: str) -> Wire:
        """Destroy what a task said, durably: who did, when, why; how many entries are `plain` (they were written before there were keys
        and stay), whether `traces` are left in the store's files for a while. The same again is the first one. Raises `TaskLive` or
        `UnknownTask`."""
        engine = self._engine
        async with self._turn:
            engine.check_ledger()
            await self._known(task)
            undoing = undoing_of(task)
            for one in (task, undoing):
                if engine.is_live(one):
                    raise TaskLive(task=one)
            entries = self._reads.entries(task)
            if not entries:
                raise UnknownTask(task=task)
            if erased_by(entries) is None:
                with engine.admission.closed_to(task):
                    if self._reads.entries(undoing):  # it has what was to be undone
                        engine.record(None, e.TaskErased(by, why), task_id=undoing)
                    engine.record(None, e.TaskErased(by, why), task_id=task)
                    await engine.durable()
                await self._cleaned()
                entries = self._reads.entries(task)
        erased = erased_by(entries)
        assert erased is not None
        fact, at = erased
        plain = sum(is_plain(entry) for entry in entries)
        return {"task": task, "at": rfc3339(at), "by": fact.by, "why": fact.why, "plain": plain, "traces": engine.store.traces}

    async def _cleaned(self) -> None:
        """The store has removed the traces, where nobody is in its way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_SECONDS):
                while self._engine.store.traces:  # noqa: ASYNC110 - the writer's thread announces nothing
                    await asyncio.sleep(_LOOK_SECONDS)

    async def _known(self, task: str) -> None:
        """Nobody is coming in under this id, and all that there is of it can be read."""
        while True:
            await self._engine.admission.settled(task)
            await self._engine.durable()
            if task not in self._engine.admission.coming():
                return

    async def prune(self, days: int, by: str, dry_run: bool) -> Wire:
        """Delete what the model calls of tasks said that ended more than `days` ago, durably: how many tasks, pieces and bytes, or how many
        it would be; whether `traces` are left in the store's files for a while, and whether they go only as their room is `reused`. Raises
        `RetentionTooShort`."""
        if days < RETENTION_AT_LEAST:
            raise RetentionTooShort(days=days, least=RETENTION_AT_LEAST)
        engine = self._engine
        engine.check_ledger()
        before = max(0, engine.clock.now() - days * _DAY)
        reused = False
        found = await asyncio.to_thread(self._reads.prunable, before)
        if not dry_run:
            for start in range(0, len(found), _AT_ONCE):  # a few in a transaction: others wait for the same thread
                for one in found[start : start + _AT_ONCE]:
                    engine.record(None, e.ContentPruned(by, days), task_id=one.task)
                await engine.durable()
            if found:
                reused = engine.store.free_room()
                await self._cleaned()
        counts = {"tasks": len(found), "pieces": sum(one.pieces for one in found), "bytes": sum(one.bytes for one in found)}
        left = {"traces": engine.store.traces, "reused": reused}
        return {"days": days, "ended_before": rfc3339(before), "pruned": not dry_run, **counts, **left}


def erased_by(entries: Sequence[e.Entry]) -> tuple[e.TaskErased, int] | None:
    """How and when the task of these entries was erased; none where it was not."""
    opened = ((entry.open(), entry.at) for entry in entries if entry.kind == e.TaskErased.KIND)
    return next(((fact, at) for fact, at in opened if isinstance(fact, e.TaskErased)), None)


def is_plain(entry: e.Entry) -> bool:
    """Whether it has content that is under no seal: it was written before there were keys."""
    if e.SEAL in entry.data or not e.KINDS[entry.kind].CONTENT:
        return False
    parts = entry.open().split()
    return bool(parts.content or parts.kept)
