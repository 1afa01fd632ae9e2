"""Dead letters: messages on which replica after replica has ended. They are kept whole, and a human decides what becomes of them.

A message that has cost two replicas is handed out alone, to a replica that does nothing else, so that the third one accuses it and nobody
beside it. From then on nobody works on it; its task waits, as it does for an approval, and everything that was recorded of it stays.
Retried, it is handed out again as the same dispatch; dropped, its ask has failed; where nobody decides in time, its task has expired.
"""

from typing import TYPE_CHECKING

from interlock.orchestrator.state import DispatchState, Item
from interlock.schemas import entries as e
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import AgentFailed
from interlock.schemas.ids import derived
from interlock.schemas.times import after

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

LOST_AT_MOST = 3
DEAD = "dead"


class Letters:
    """The engine's desk for what kills whoever works on it."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def lettered(self, dispatch: DispatchState, replica: str, why: str) -> None:
        """Another replica has ended on it, and that was one too many."""
        task, lost = self._engine.tasks[dispatch.task], dispatch.lost + 1
        fact = e.DeadLettered(dispatch.id, dispatch.attempt, dispatch.agent, replica, lost, why, _item(dispatch))
        self._engine.record(task, fact)
        self.ask(dispatch)

    def ask(self, dispatch: DispatchState) -> None:
        """Ask what shall become of it: approve hands it out again, deny lets its ask fail."""
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        escalate, sent = engine.undos.escalate(task), Envelope.of(dispatch.head, dispatch.data)
        text = (
            f"{dispatch.lost} replicas of {dispatch.agent} ended on this {sent.contract.name}; it is a dead letter and nobody works on it. "
            "Find out why and correct it; then retry hands it out again, drop lets the workflow's ask fail."
        )
        details = {"agent": dispatch.agent, "contract": str(sent.contract), "lost": dispatch.lost}
        item, expires = _item(dispatch), after(engine.clock.now(), escalate.seconds)
        engine.record(task, e.ItemAsked(item, DEAD, escalate.to, text, expires, dispatch=dispatch.id, details=details))
        engine.inbox.watch(task, task.items[item])
        engine.inbox.advance(dispatch)

    def dropped(self, dispatch: DispatchState, item: Item) -> None:
        """A human has given it up: its workflow hears that the ask has failed."""
        problem = f"{LOST_AT_MOST} replicas ended on it, and {item.by} dropped it" + (f" ({item.note})" if item.note else "")
        self._engine.dispatches.fail(dispatch, AgentFailed(agent=dispatch.agent, contract="its message", problem=problem))


def _item(dispatch: DispatchState) -> str:
    """Each time that it is handed out it may become one anew."""
    return derived("itm", DEAD, dispatch.id, dispatch.attempt)
