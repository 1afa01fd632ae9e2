"""Bugs that are planted on purpose, one of each kind that the laws speak of: a law that notices none of them would be worth nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import laws
import pytest

from interlock.actors.supervisor import meters
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.orchestrator import undo
from interlock.orchestrator.admission import Admission
from interlock.orchestrator.channel import Channel
from interlock.orchestrator.dispatches import Dispatches
from interlock.orchestrator.effects import Effects
from interlock.orchestrator.engine import Engine
from interlock.orchestrator.erasure import Erasure
from interlock.orchestrator.ledger.memory import Disk, MemoryLedger
from interlock.orchestrator.ledger.projections import Tables
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.ledger.undos import due
from interlock.orchestrator.parking import Parking
from interlock.orchestrator.service import Service
from interlock.orchestrator.state import apply
from interlock.orchestrator.undo import Undos
from interlock.orchestrator.workflows import Workflows
from interlock.schemas import entries as e
from interlock.schemas.frames import Dispatch


def grant_without_intent(patch: pytest.MonkeyPatch) -> None:
    """A write is granted, and its intent is never recorded."""
    record = Engine.record

    def forgetful(self: Engine, task: Any, fact: Any, then: Any = None, **more: Any) -> int:
        if isinstance(fact, e.EffectIntended):
            then()
            return self.clock.now()
        return record(self, task, fact, then, **more)

    patch.setattr(Engine, "record", forgetful)


def grant_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A write is granted as soon as its intent is on its way to the disk."""
    record = Engine.record

    def hasty(self: Engine, task: Any, fact: Any, then: Any = None, **more: Any) -> int:
        if isinstance(fact, e.EffectIntended):
            at = record(self, task, fact, None, **more)
            then()
            return at
        return record(self, task, fact, then, **more)

    patch.setattr(Engine, "record", hasty)


def outcome_overwritten(patch: pytest.MonkeyPatch) -> None:
    """A task that has ended ends once more."""
    end = Engine.end

    def again(self: Engine, task: Any, *args: Any, **more: Any) -> None:
        end(self, task, *args, **more)
        task.ended = None
        end(self, task, *args, **more)

    patch.setattr(Engine, "end", again)


def reservation_not_held(patch: pytest.MonkeyPatch) -> None:
    """What is under way is not counted against the limits."""
    fit = meters.fit
    patch.setattr(meters, "fit", lambda limits, used, reserved, *rest: fit(limits, used, {}, *rest))


def limit_ignored(patch: pytest.MonkeyPatch) -> None:
    """There is always something left."""
    patch.setattr(meters, "fit", lambda limits, used, reserved, asked, *rest: (max(asked.wanted, asked.least), None))


def fence_ignored(patch: pytest.MonkeyPatch) -> None:
    """An order keeps nobody from being granted more."""
    patch.setattr(meters.Meters, "fence", lambda self, task, why: None)


def settle_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What an effect held is never given back."""

    async def later(self: SupervisorBudgets, id: str, actual: Any) -> None:
        """Never."""

    patch.setattr(SupervisorBudgets, "settle", later)


def accepted_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A task is acknowledged and never recorded as accepted."""
    patch.setattr(Admission, "_record", lambda self, arrival: None)


def entry_changed(patch: pytest.MonkeyPatch) -> None:
    """A byte of an entry changes on the disk."""
    write = Disk.write

    def rot(self: Disk, batch: Sealed) -> None:
        write(self, batch)
        if len(self.log) == 40:
            self.log[-1] = replace(self.log[-1], at=self.log[-1].at + 1)

    patch.setattr(Disk, "write", rot)


def projection_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A task's end is an entry and not in the projections."""
    write = Disk.write

    def partly(self: Disk, batch: Sealed) -> None:
        whole, ends = self.tables, any(entry.kind == e.TaskEnded.KIND for entry in batch.opened)
        self.tables = Tables() if ends else whole
        try:
            write(self, batch)
        finally:
            self.tables = whole

    patch.setattr(Disk, "write", partly)


def task_lost(patch: pytest.MonkeyPatch) -> None:
    """A new orchestrator forgets the last of the tasks."""
    live = Disk.live_tasks
    patch.setattr(Disk, "live_tasks", lambda self: live(self)[:-1])


def zombie_writes(patch: pytest.MonkeyPatch) -> None:
    """A writer does not look whether a newer epoch has begun."""
    commit = MemoryLedger._commit

    def blind(self: MemoryLedger) -> None:
        newest, self.disk.epoch = self.disk.epoch, self.epoch
        try:
            commit(self)
        finally:
            self.disk.epoch = max(newest, self.disk.epoch)

    patch.setattr(MemoryLedger, "_commit", blind)


def attempt_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A message is handed to two at once, and whoever says anything of it is believed."""
    hand, finish = Dispatches._hand, Dispatches._finish

    def twice(self: Dispatches, replica: Channel, dispatch: Any) -> None:
        hand(self, replica, dispatch)
        others = [one for one in self._engine.router.pools[dispatch.agent].channels if one.open and one is not replica]
        for other in others[:1]:
            attempt = f"{dispatch.attempt}-too"
            other.send(
                Dispatch(dispatch.id, dispatch.task, attempt, dispatch.agent, dispatch.head, dispatch.data, dispatch.returns, records=[])
            )

    patch.setattr(Dispatches, "_hand", twice)
    patch.setattr(Dispatches, "current", lambda self, replica, id, attempt: self.live.get(id))
    patch.setattr(Dispatches, "_finish", lambda self, replica, frame: self.live.get(frame.dispatch) or finish(self, replica, frame))


def frames_applied_twice(patch: pytest.MonkeyPatch) -> None:
    """What comes twice is taken twice: the channel does not drop it, and the desk for workflows does not look at its number."""
    sequence = Channel._sequence

    def twice(self: Channel, first: int, frames: list[Any]) -> None:
        known = frames[: max(0, self._received + 1 - first)]
        if known:
            self._on_frames(self, known)
        sequence(self, first, frames)

    def carry_out(self: Workflows, task: Any, command: Any) -> None:
        if command.kind in ("done", "failed", "cancel"):
            once(self, task, command)
        else:
            self._begin(task, command)

    once = Workflows._carry_out
    patch.setattr(Channel, "_sequence", twice)
    patch.setattr(Workflows, "_carry_out", carry_out)


def unknown_repeated(patch: pytest.MonkeyPatch) -> None:
    """A write whose holder is gone is forgotten, so that whoever has the message next makes it again."""

    def forget(self: Effects, dispatch: Any, why: str) -> bool:
        for effect in list(dispatch.effects.values()):
            if effect.status in ("granted", "unknown"):
                del dispatch.effects[effect.id]
        return orphaned(self, dispatch, why)

    orphaned = Effects.orphaned
    patch.setattr(Effects, "orphaned", forget)


def _told_early(patch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    record = Engine.record

    def hasty(self: Engine, task: Any, fact: Any, then: Any = None, **more: Any) -> int:
        if not isinstance(fact, kind) or then is None:
            return record(self, task, fact, then, **more)
        at = record(self, task, fact, None, **more)
        asyncio.get_running_loop().call_soon(then)
        return at

    patch.setattr(Engine, "record", hasty)


def answer_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A replica hears a result that is only on its way to the disk."""
    _told_early(patch, e.EffectEnded)


def reply_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A workflow hears a reply that is only on its way to the disk."""
    _told_early(patch, e.MessageReceived)


def outcome_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A driver hears of an outcome that is only on its way to the disk."""
    _told_early(patch, e.TaskEnded)


def decision_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A human is told that a decision stands which is only on its way to the disk."""

    async def at_once(self: Service, item: str, approve: bool, by: str, note: str) -> None:
        self._engine.inbox.decide(item, approve=approve, by=by, note=note)

    patch.setattr(Service, "decide", at_once)


def work_outlives_its_task(patch: pytest.MonkeyPatch) -> None:
    """Nobody tells those who work for a task that it has ended."""
    patch.setattr(Dispatches, "drop", lambda self, dispatch, why: None)


def parked_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A new orchestrator does not know who has left memory."""
    patch.setattr(Parking, "restore", lambda self, entries: None)
    live = Disk.live_tasks
    patch.setattr(Disk, "live_tasks", lambda self: [id for id in live(self) if self.entries(id)[-1].kind != e.TaskParked.KIND])


def erased_key_kept(patch: pytest.MonkeyPatch) -> None:
    """What was erased is said to be, and its key is still there."""
    write = Disk.write
    patch.setattr(Disk, "write", lambda self, batch: write(self, batch._replace(erased=[])))


def erased_before_durable(patch: pytest.MonkeyPatch) -> None:
    """Somebody is told that a task is erased which it will be when its entry is on the disk."""

    async def hasty(self: Erasure, task: str, by: str, why: str) -> dict[str, Any]:
        if not self._engine.is_live(task):
            self._engine.record(None, e.TaskErased(by, why), task_id=task)
        return {"task": task}

    patch.setattr(Erasure, "erase", hasty)


def cut_off_untold(patch: pytest.MonkeyPatch) -> None:
    """A model call whose gateway died is charged, and made again, and nobody records it."""
    record = Engine.record

    def silent(self: Engine, task: Any, fact: Any, then: Any = None, **more: Any) -> int:
        if not isinstance(fact, e.ModelCutOff) or task is None:
            return record(self, task, fact, then, **more)
        apply(task, fact, self.clock.now())
        if then is not None:
            self.store.barrier(then)
        return self.clock.now()

    patch.setattr(Engine, "record", silent)


def undo_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Nothing is undone."""
    patch.setattr(Undos, "accept", lambda self, task, outcome, wanted: "")


def undone_in_order(patch: pytest.MonkeyPatch) -> None:
    """What was done first is undone first."""
    patch.setattr(undo, "due", lambda facts: due(facts)[::-1])


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    mutant.__name__: (mutant, law.__name__)
    for mutant, law in (
        (cut_off_untold, laws.each_model_call_is_told),
        (unknown_repeated, laws.no_deed_is_done_twice),
        (fence_ignored, laws.nothing_is_granted_after_a_fence),
        (reservation_not_held, laws.no_limit_is_exceeded),
        (limit_ignored, laws.no_limit_is_exceeded),
        (settle_forgotten, laws.what_a_calm_task_held_is_settled),
        (accepted_before_durable, laws.each_task_has_one_outcome),
        (task_lost, laws.everything_comes_to_its_end),
        (parked_forgotten, laws.each_task_has_one_outcome),
        (decision_before_durable, laws.nothing_is_told_before_it_is_durable),
        (answer_before_durable, laws.nothing_is_told_before_it_is_durable),
        (reply_before_durable, laws.nothing_is_told_before_it_is_durable),
        (outcome_before_durable, laws.nothing_is_told_before_it_is_durable),
        (outcome_overwritten, laws.each_task_has_one_outcome),
        (zombie_writes, laws.the_ledger_verifies),
        (work_outlives_its_task, laws.nothing_after_the_end),
        (attempt_not_checked, laws.only_the_current_attempt_is_heard),
        (frames_applied_twice, laws.what_happens_is_recorded_once),
        (grant_without_intent, laws.each_deed_was_intended_before),
        (grant_before_durable, laws.each_deed_was_intended_before),
        (projection_forgotten, laws.the_ledger_verifies),
        (entry_changed, laws.the_ledger_verifies),
        (erased_key_kept, laws.what_was_erased_is_gone_and_nothing_else),
        (erased_before_durable, laws.what_was_erased_is_gone_and_nothing_else),
        (undo_forgotten, laws.what_did_not_succeed_is_undone),
        (undone_in_order, laws.what_did_not_succeed_is_undone),
    )
}
"""Each with the law that must be broken by it."""


SHOWN_BY = {"cut_off_untold": 906, "fence_ignored": 222, "erased_before_durable": 222}
"""The storms that show what few others do: they are played first."""
