"""The inbox: what waits for a human. Approvals of one act each, questions of workflows, effects of which nobody knows.

A dispatch that waits is suspended: its replica lets go of it, the decision joins its record, and it is handed out again.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.history import happened
from interlock.orchestrator.state import DispatchState, EffectState, Item, TaskState
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode
from interlock.schemas.errors import AlreadyDecided, UnknownItem
from interlock.schemas.ids import derived
from interlock.schemas.record import Outcome
from interlock.schemas.specs import ToolSpec
from interlock.schemas.times import after
from interlock.tools.approval import approval_digest

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine


class Inbox:
    """The engine's desk for humans."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._tasks: dict[str, str] = {}  # item → task, of those in memory

    # --- asking ----------------------------------------------------------------------------------------------------------

    def approved(self, dispatch: DispatchState, effect: EffectState) -> bool:
        """Whether exactly this act has been approved."""
        item = self._engine.tasks[dispatch.task].items.get(approval_id(effect))
        return item is not None and item.decision == "approved" and item.digest == _binding(effect)

    def ask_approval(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """Ask whether this one call may happen; its dispatch is suspended until then."""
        args = decode(effect.args)
        text = f"{dispatch.agent} wants to call {spec.name} on {spec.system}. {spec.description}"
        self._ask_about(dispatch, effect, "approval", approval_id(effect), text, args)
        self.advance(dispatch)

    def is_asked(self, dispatch: DispatchState, effect: EffectState) -> bool:
        """Whether somebody is asked already if this effect happened."""
        return unknown_id(effect) in self._engine.tasks[dispatch.task].items

    def ask_unknown(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, why: str) -> None:
        """Ask whether a call whose holder is gone took effect: approve says it did, deny that it did not."""
        text = (
            f"Did {spec.name} on {spec.system} take effect? It was granted to {dispatch.agent} and {why}. "
            "Look there: approve if it happened (what it returned, as JSON, may be the note), deny if it did not and shall run again."
        )
        self._ask_about(dispatch, effect, "unknown", unknown_id(effect), text, decode(effect.args))

    def answered(self, dispatch: DispatchState, effect: EffectState) -> None:
        """What was asked about this effect, the world has answered: the question is withdrawn and the dispatch goes on."""
        task = self._engine.tasks[dispatch.task]
        item = task.items.get(unknown_id(effect))
        if item is not None and not item.decision:
            self._withdraw(task, item, f"the end of {effect.name} was heard of after all")
        self.advance(dispatch)

    def closed(self, task: TaskState, dispatch: str) -> None:
        """A dispatch has its reply or has failed, which has just been recorded: what it had asked is nobody's question any more."""
        for item in task.open_items:
            if item.dispatch == dispatch:
                self._withdraw(task, item, "the message for which it was asked is over")

    def _withdraw(self, task: TaskState, item: Item, why: str) -> None:
        if task.ended is not None:
            return  # with its end all that it had asked was withdrawn
        self._engine.timers.cancel(task.id, item.id)
        self._engine.record(task, e.ItemDecided(item.id, "withdrawn", "the bus", why))

    def _ask_about(self, dispatch: DispatchState, effect: EffectState, kind: str, id: str, text: str, args: Any) -> None:
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        if id not in task.items:
            escalate = engine.undos.escalate(task)
            expires = after(engine.clock.now(), escalate.seconds)
            details = {"tool": effect.name, "agent": dispatch.agent, "arguments": args}
            engine.record(
                task,
                e.ItemAsked(id, kind, escalate.to, text, expires, 0, dispatch.id, effect.id, _binding(effect), details),
            )
            self.watch(task, task.items[id])

    def advance(self, dispatch: DispatchState) -> None:
        """A dispatch with something in the inbox is suspended while any of it is open, and handed out again once nothing is. A granted
        write runs to its end first: whoever let go in the middle would not know whether it happened. One whose replica nobody knows any
        more, after a restart, is made out first: see `Dispatches.resume`."""
        if not dispatch.waits or dispatch.writing:
            return
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        waits_for = next((item.id for item in task.open_items if item.dispatch == dispatch.id), "")
        if not waits_for:
            engine.dispatches.release(dispatch, "it goes on from what was decided")
            engine.dispatches.again(dispatch, "what it waited for was decided")
        elif not dispatch.suspended:
            engine.record(task, e.DispatchSuspended(dispatch.id, dispatch.attempt, waits_for))
            engine.dispatches.release(dispatch, "it waits for a human")

    def question(self, task: TaskState, n: int, asked: dict[str, Any]) -> None:
        """A workflow's question, its command `n`."""
        engine, id = self._engine, derived("itm", task.id, n)
        escalate = engine.undos.escalate(task)
        expires = after(engine.clock.now(), escalate.seconds)
        fact = e.ItemAsked(id, "question", escalate.to, asked["text"], expires, n, details=asked["details"])
        engine.record(task, fact)
        self.watch(task, task.items[id])

    def ask_diverged(self, task: TaskState) -> None:
        """Ask what to do with a task whose workflow does not make the recorded asks: approve replays it, deny ends it as failed. Shown is
        the first command that differs, as recorded and as it would be now."""
        engine, id = self._engine, derived("itm", "diverged", task.id, len(task.items))
        escalate = engine.undos.escalate(task)
        text = f"{task.divergence} Then approve, and it is replayed; deny ends the task as failed."
        expires = after(engine.clock.now(), escalate.seconds)
        engine.record(task, e.ItemAsked(id, "diverged", escalate.to, text, expires, details=task.sides))
        self.watch(task, task.items[id])

    def know(self, task: TaskState) -> None:
        """A restored task: its items can be decided from now on."""
        self._tasks.update(dict.fromkeys(task.items, task.id))

    def watch(self, task: TaskState, item: Item) -> None:
        """Make an open item known: it can be decided, and it expires."""
        self._tasks[item.id] = task.id
        self._engine.timers.set(task.id, item.id, item.expires, partial(self._expire, task, item))

    # --- deciding ----------------------------------------------------------------------------------------------------------

    def decide(self, id: str, *, approve: bool, by: str, note: str) -> None:
        """A human has decided. Raises `UnknownItem` or `AlreadyDecided`; the caller waits until it is durable."""
        task = self._engine.task(self._tasks.get(id) or self._engine.store.item_task(id))
        item = task.items.get(id) if task is not None else None
        if task is None or item is None or task.outcome:
            raise UnknownItem(item=id)
        decision = "approved" if approve else "denied"
        if not item.decision:
            self._decide(task, item, decision, by, note)
        elif (item.decision, item.by) != (decision, by):  # the same once more is the same call, made again
            raise AlreadyDecided(item=id, decision=item.decision, by=item.by or "its workflow")

    def _decide(self, task: TaskState, item: Item, decision: str, by: str, note: str) -> None:
        engine = self._engine
        engine.timers.cancel(task.id, item.id)
        fact = e.ItemDecided(item.id, decision, by, note, item.n)
        if item.kind == "question":
            number = task.events + 1

            def deliver() -> None:
                event = happened(task.id, number, fact, at)
                if event is not None:
                    engine.workflows.deliver(task, event)

            at = engine.record(task, fact, deliver)
            return
        engine.record(task, fact)
        self._act(task, item)

    def _act(self, task: TaskState, item: Item) -> None:
        """What follows from a decision; done again where an orchestrator died before all of it was durable."""
        engine = self._engine
        if item.decision == "expired":
            to = engine.undos.escalate(task).to
            engine.end(task, Outcome.EXPIRED, f"nobody at {to} decided {item.id} in time")
            return
        if item.kind == "approval" and item.decision == "denied":
            engine.end(task, Outcome.REJECTED, f"{item.by} denied {item.id}" + (f": {item.note}" if item.note else ""))
            return
        if item.kind == "diverged":
            if item.decision == "denied":
                engine.end(task, Outcome.FAILED, f"diverged: {task.divergence}")
            elif task.runner is None and task.rested < task.events:
                engine.store.barrier(lambda: engine.workflows.load(task) if task.runner is None else None)
            return
        dispatch = task.dispatches.get(item.dispatch)
        if dispatch is None:
            return
        if item.kind == "dead" and item.decision == "denied":
            engine.letters.dropped(dispatch, item)
            return
        effect = dispatch.effects.get(item.effect)
        if item.kind == "unknown" and item.decision == "approved" and effect is not None and effect.status == "unknown":
            engine.effects.confirm(dispatch, effect, item.note)
        elif item.kind == "unknown" and item.decision == "denied" and effect is not None and effect.status == "asked":
            engine.deeds.did_not_happen(dispatch, effect)
        self.advance(dispatch)

    def resume(self, task: TaskState) -> None:
        """A new orchestrator: what is open is watched again, what was decided has its consequences."""
        for item in list(task.items.values()):
            dispatch = task.dispatches.get(item.dispatch)
            effect = dispatch.effects.get(item.effect) if dispatch is not None else None
            if not item.decision and item.kind == "unknown" and dispatch is not None and effect is not None and effect.status == "ended":
                self.answered(dispatch, effect)
            elif not item.decision and item.dispatch and dispatch is None:
                self.closed(task, item.dispatch)
            elif not item.decision:
                self.watch(task, item)
            elif not task.outcome:
                self._act(task, item)
        if task.diverged and not any(item.kind == "diverged" for item in task.open_items):
            self.ask_diverged(task)

    def _expire(self, task: TaskState, item: Item) -> None:
        if task.outcome or item.decision:
            return
        self._engine.record(task, e.ItemDecided(item.id, "expired", "the clock", "", item.n))
        self._act(task, item)

    def forget(self, task: TaskState) -> None:
        """The task has ended; nothing of it waits any more."""
        for item in task.items.values():
            self._engine.timers.cancel(task.id, item.id)
            self._tasks.pop(item.id, None)


def _binding(effect: EffectState) -> str:
    """What a yes is bound to: exactly this call."""
    return approval_digest(effect.id, effect.name, decode(effect.args))


def approval_id(effect: EffectState) -> str:
    """An approval belongs to the call, whoever asks for it in whichever attempt; another argument is another item."""
    return derived("itm", "approval", effect.id, _binding(effect))


def unknown_id(effect: EffectState) -> str:
    """What is asked about one intent; the same effect may be intended again."""
    return derived("itm", "unknown", effect.id, effect.attempt)
