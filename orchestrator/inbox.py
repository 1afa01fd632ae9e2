"""The inbox: what waits for a human. Approvals of one act each, questions of workflows, effects of which nobody knows.

A dispatch that waits is suspended: its replica lets go of it, the decision joins its record, and it is handed out again.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.history import happened
from interlock.orchestrator.state import DispatchState, EffectState, Item, TaskState
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode, digest
from interlock.schemas.errors import AlreadyDecided, UnknownItem
from interlock.schemas.ids import derived
from interlock.schemas.record import Outcome
from interlock.schemas.specs import ToolSpec

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine


class Inbox:
    """The engine's desk for humans."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._tasks: dict[str, str] = {}  # item → task, of live tasks

    # --- asking ----------------------------------------------------------------------------------------------------------

    def approved(self, dispatch: DispatchState, effect: EffectState) -> bool:
        """Whether exactly this act has been approved."""
        item = self._engine.tasks[dispatch.task].items.get(approval_id(effect))
        return item is not None and item.decision == "approved"

    def ask_approval(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """Ask whether this one call may happen; its dispatch is suspended until then."""
        args = decode(effect.args)
        text = f"{dispatch.agent} wants to call {spec.name} on {spec.system}. {spec.description}"
        effect.status = "approval"
        self._ask_about(dispatch, effect, "approval", approval_id(effect), text, args)

    def ask_unknown(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, why: str) -> None:
        """Ask whether a call whose holder is gone took effect: approve says it did, deny that it did not."""
        text = (
            f"Did {spec.name} on {spec.system} take effect? It was granted to {dispatch.agent} and {why}. "
            "Look there: approve if it happened, deny if it did not and shall run again."
        )
        self._ask_about(dispatch, effect, "unknown", derived("itm", "unknown", effect.id, effect.attempt), text, decode(effect.args))

    def _ask_about(self, dispatch: DispatchState, effect: EffectState, kind: str, id: str, text: str, args: Any) -> None:
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        if id not in task.items:
            escalate = engine.router.workflows[task.type].escalate
            expires = engine.clock.now() + int(escalate.seconds * 1e6)
            details = {"tool": effect.name, "agent": dispatch.agent, "arguments": args}
            binding = digest([effect.id, effect.name, args])
            engine.record(
                task,
                e.ItemAsked(id, kind, escalate.to, text, expires, 0, dispatch.id, effect.id, binding, details),
            )
            self.watch(task, task.items[id])
        engine.record(task, e.DispatchSuspended(dispatch.id, dispatch.attempt, id))
        engine.dispatches.release(dispatch, "it waits for a human")

    def question(self, task: TaskState, n: int, asked: dict[str, Any]) -> None:
        """A workflow's question, its command `n`."""
        engine, id = self._engine, derived("itm", task.id, n)
        escalate = engine.router.workflows[task.type].escalate
        expires = engine.clock.now() + int(escalate.seconds * 1e6)
        fact = e.ItemAsked(id, "question", escalate.to, asked["text"], expires, n, details=asked["details"])
        engine.record(task, fact)
        self.watch(task, task.items[id])

    def watch(self, task: TaskState, item: Item) -> None:
        """Make an open item known: it can be decided, and it expires."""
        self._tasks[item.id] = task.id
        self._engine.timers.set(task.id, item.id, item.expires, partial(self._expire, task, item))

    # --- deciding ----------------------------------------------------------------------------------------------------------

    def decide(self, id: str, *, approve: bool, by: str, note: str) -> None:
        """A human has decided. Raises `UnknownItem` or `AlreadyDecided`; the caller waits until it is durable."""
        task = self._engine.tasks.get(self._tasks.get(id, ""))
        item = task.items.get(id) if task is not None else None
        if task is None or item is None or task.outcome:
            raise UnknownItem(item=id)
        if item.decision:
            raise AlreadyDecided(item=id, decision=item.decision, by="someone")
        self._decide(task, item, "approved" if approve else "denied", by, note)

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
        if item.kind == "approval" and decision == "denied":
            reason = f"{by} denied {item.id}" + (f": {note}" if note else "")
            engine.end(task, Outcome.REJECTED, reason)
            return
        self.carry_on(task, item, note)

    def carry_on(self, task: TaskState, item: Item, note: str) -> None:
        """The dispatch that waited for this item goes on."""
        dispatch = task.dispatches.get(item.dispatch)
        if dispatch is None or dispatch.suspended != item.id:
            return
        effect = dispatch.effects.get(item.effect)
        if item.kind == "unknown" and effect is not None:
            self._engine.effects.resolve_unknown(dispatch, effect, happened=item.decision == "approved", note=note)
        self._engine.dispatches.again(dispatch, f"{item.id} was {item.decision}")

    def _expire(self, task: TaskState, item: Item) -> None:
        if task.outcome or item.decision:
            return
        engine = self._engine
        engine.record(task, e.ItemDecided(item.id, "expired", "the clock", "", item.n))
        to = engine.router.workflows[task.type].escalate.to
        engine.end(task, Outcome.EXPIRED, f"nobody at {to} decided {item.id} in time")

    def forget(self, task: TaskState) -> None:
        """The task has ended; nothing of it waits any more."""
        for item in task.items.values():
            self._engine.timers.cancel(task.id, item.id)
            self._tasks.pop(item.id, None)


def approval_id(effect: EffectState) -> str:
    """An approval belongs to the effect, which is named by agent, tool and arguments; never to an attempt."""
    return derived("itm", "approval", effect.id)
