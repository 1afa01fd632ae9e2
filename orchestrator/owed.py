"""Model calls whose record is owed: each one that was made is told, also where nobody asks for it any more.

A call outlives its dispatch: it was cancelled, and what it had cost by then is in the record that its gateway sends. Where the gateway
dies before that is durable, the call is charged and recorded as cut off. A budget is closed only when nothing of its task is owed any more,
so an orchestrator that comes later finds it open, and looks which calls were made for it and are on no record.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from interlock.schemas import entries as e
from interlock.schemas.frames import CancelCall

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

_TELL = (e.ModelCalled.KIND, e.ModelCutOff.KIND)


class Owed:
    """The engine's desk for the ends of model calls. A call is `effect#number`, at one gateway. `older` are live tasks that an orchestrator
    before this one has had: it may know of calls that this one does not."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._calls: dict[tuple[str, str], tuple[str, str]] = {}  # (call, gateway) → (task, dispatch)
        self._of: dict[str, set[tuple[str, str]]] = {}  # the same by task
        self._ended: set[tuple[str, str]] = set()  # what became of them is on its way to the disk, or they are being charged
        self._then: dict[tuple[str, str], Callable[[], None]] = {}
        self._closing: set[str] = set()  # tasks that have ended, with budgets that are open
        self.older: set[str] = set()

    def add(self, task: str, dispatch: str, call: str, gateway: str) -> None:
        """A gateway makes this call, or has made it."""
        self._calls[call, gateway] = task, dispatch
        self._of.setdefault(task, set()).add((call, gateway))

    def ended(self, task: str, dispatch: str, call: str, gateway: str) -> None:
        """How it ended is known, and not durable yet."""
        self.add(task, dispatch, call, gateway)
        self._ended.add((call, gateway))

    def told(self, call: str, gateway: str) -> None:
        """What became of it is durable."""
        task, _ = self._calls.pop((call, gateway), ("", ""))
        self._ended.discard((call, gateway))
        left = self._of.get(task, set())
        left.discard((call, gateway))
        if not left:
            self._of.pop(task, None)
            if task in self._closing:
                self.close(task)
        if (then := self._then.pop((call, gateway), None)) is not None:
            then()

    def gone(self, gateway: str) -> None:
        """It has died: what it made and nobody waits for is charged, and told."""
        for (call, place), (task, dispatch) in list(self._calls.items()):
            if place == gateway:
                self.cut_off(task, dispatch, call, gateway)

    def cut_off(self, task: str, dispatch: str, call: str, gateway: str, then: Callable[[], None] | None = None) -> None:
        """A gateway that is gone made this call: charge in full what it had not settled, and record it, unless how it ended is known.
        `then` is called once that is durable."""
        if then is not None:
            self._then[call, gateway] = then
        if (call, gateway) not in self._ended:
            self.ended(task, dispatch, call, gateway)
            self._engine.background(self._charge(task, dispatch, call, gateway), task)

    async def _charge(self, task: str, dispatch: str, call: str, gateway: str) -> None:
        engine = self._engine
        charged = await engine.budgets.forfeit(task, f"{call}@{gateway}")
        if not engine.detached:
            effect, _, number = call.partition("#")
            fact = e.ModelCutOff(effect, dispatch, gateway, int(number), dict(charged))
            engine.record(engine.tasks.get(task), fact, partial(self.told, call, gateway), task_id=task)

    # --- budgets -----------------------------------------------------------------------------------------------------------------

    def close(self, task: str) -> None:
        """The task has its outcome, durably: its budget is closed as soon as each of its calls is told."""
        if task in self.older:
            self._engine.background(self._look(task))
        elif task in self._of:
            self._closing.add(task)
        else:
            self._closing.discard(task)
            self._engine.close_budget(task)

    def close_older(self, task: str) -> None:
        """The same of a task that is not live any more: an orchestrator before this one gave it its outcome, and may have died then."""
        self.older.add(task)
        self.close(task)

    async def close_forgotten(self) -> None:
        """Close the budgets that orchestrators before this one could not close any more: they died right after they had given their
        tasks their outcome, or before they had accepted them."""
        engine = self._engine
        kept = [*engine.tasks, *engine.parking, *engine.admission.coming()]
        for task in await engine.budgets.close_forgotten(engine.store.epoch, kept):
            if not engine.is_live(task):
                self.close_older(task)

    async def _look(self, task: str) -> None:
        """Find the calls that were made for orchestrators before this one and are on no record."""
        engine = self._engine
        calls = await engine.budgets.calls_of(task)
        if calls and not engine.detached:
            await engine.durable()
        if engine.detached:
            return
        told = self._recorded(task) if calls else set()
        for call, _, place in (name.partition("@") for name in calls):
            effect = call.partition("#")[0]
            if (call, place) in self._calls or not told.isdisjoint({(effect, place), (effect, "")}):
                continue
            self.add(task, "", call, place)
            if place in engine.peers.channels:  # it makes it yet, or its record is on the way
                engine.peers.channels[place].send(CancelCall(effect))
            else:
                self.cut_off(task, "", call, place)
        self.older.discard(task)
        self.close(task)

    def _recorded(self, task: str) -> set[tuple[str, str]]:
        """Effects of which the ledger tells a model call, each with its gateway; without one where it was written before that was kept."""
        facts = (entry.open() for entry in self._engine.store.entries(task) if entry.kind in _TELL)
        return {(fact.effect, fact.gateway) for fact in facts if isinstance(fact, e.ModelCalled | e.ModelCutOff)}
