"""Model calls: made once by a gateway, recorded in full, and repeated once where their gateway died.

known already? → running already? then attach → gateway (which reserves, calls and settles) → record durable → answer.

A call is owned by its effect's id: whoever asks for it again, after whatever crash, meets the same call. One whose gateway is gone was
perhaps worked on by the model: it counts as spent, in full where the gateway had not settled it, and the record says so. Of a call that an
orchestrator before this one had made, and of which the ledger has no record, the supervisor knows by its reservation. What became of those
that nobody asks for again is told by `owed.py`.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.breakers import GatewayBreakers
from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import DispatchState, EffectState, TaskState, apply
from interlock.schemas import entries as e
from interlock.schemas.budget import BOUND, INPUT, OUTPUT, STEPS, TOKENS, USD
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BudgetExceeded, EstimateWrong, ModelFailed, from_wire
from interlock.schemas.frames import CallEnded, CallModel, CancelCall
from interlock.schemas.ids import traceparent
from interlock.schemas.record import Outcome
from interlock.schemas.specs import MODELS

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

CALLS_AT_MOST = 2
"""A model call whose gateway died is repeated once."""


class Calls:
    """The engine's desk for model gateways."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.gateways: list[Channel] = []
        self.breakers = GatewayBreakers(engine.clock)
        self._uncalled: list[tuple[DispatchState, EffectState]] = []  # model calls that wait for a gateway
        self._held: dict[str, Channel] = {}  # calls that gateways were making when this orchestrator came
        self._held_for: dict[str, list[str]] = {}  # by the dispatch that they are for

    def call(self, dispatch: DispatchState, effect: EffectState) -> None:
        """Have it made, as soon as there is a gateway."""
        if effect.number > CALLS_AT_MOST:
            problem, calls = "each time its gateway ended", effect.number - 1
            error = ModelFailed(model=effect.name, endpoint="its gateway", attempts=calls, problem=problem)
            effect.status, effect.ok, effect.value = "ended", False, encode(error.to_wire())
            self._engine.store.barrier(partial(self._engine.effects.answer, dispatch, effect))
            return
        if not self._engine.resumed:  # who holds it may not have said so yet
            self._uncalled.append((dispatch, effect))
        elif dispatch.ours or f"{effect.id}#{effect.number}" in self._held:
            self._make(dispatch, effect)
        else:
            effect.status = "reserving"  # who asks meanwhile attaches
            self._engine.background(self._look_back(dispatch, effect), dispatch.task)

    async def _look_back(self, dispatch: DispatchState, effect: EffectState) -> None:
        """An orchestrator before this one may have had it made, at a gateway that is gone or has not answered yet."""
        engine, call = self._engine, f"{effect.id}#{effect.number}"
        places = await engine.budgets.called_at(dispatch.task, call)
        if places and not engine.detached:
            await engine.durable()
        if engine.detached or not self._awaits(dispatch, effect) or (places and self._take_recorded(dispatch, effect)):
            return
        gone = next((place for place in places if place not in engine.peers.channels), "")
        if gone:
            self._cut_off(dispatch, effect, gone)
            return
        effect.status = "asked"
        if all(engine.peers.channels[place].open for place in places):
            self._held.update((call, engine.peers.channels[place]) for place in places[:1])  # it makes it, or its record is on the way
            self._make(dispatch, effect)
        else:
            self._uncalled.append((dispatch, effect))

    def _take_recorded(self, dispatch: DispatchState, effect: EffectState) -> bool:
        """Its record may have come before its message was sent again: then it was for a dispatch that nobody knew."""
        found = next((fact for fact in self._recorded(dispatch.task, effect.id) if isinstance(fact, e.ModelCalled)), None)
        if found is not None:
            task = self._engine.tasks[dispatch.task]
            apply(task, found, task.moved)
            self._engine.effects.answer(dispatch, effect)
        return found is not None

    def _awaits(self, dispatch: DispatchState, effect: EffectState) -> bool:
        return self._engine.dispatches.live.get(dispatch.id) is dispatch and effect.status == "reserving"

    def _make(self, dispatch: DispatchState, effect: EffectState) -> None:
        running = self._held.get(f"{effect.id}#{effect.number}")
        gateway = running or min((one for one in self.gateways if one.open), key=lambda one: one.load, default=None)
        if gateway is None or (running is None and self._engine.stalls(self.call_waiting)):
            self._uncalled.append((dispatch, effect))
            return
        effect.status, effect.gateway = "calling", gateway
        gateway.load += 1
        self._engine.owed.add(dispatch.task, dispatch.id, f"{effect.id}#{effect.number}", gateway.name)
        self._engine.demand.given(MODELS, gateway)
        parent = traceparent(dispatch.task, dispatch.attempt)
        workflow = self._engine.router.workflows.get(self._engine.tasks[dispatch.task].type)
        estimate = workflow.estimate if workflow is not None else BOUND
        gateway.send(CallModel(effect.id, dispatch.task, effect.number, effect.name, effect.args, parent, dispatch.id, estimate))

    def called(self, gateway: Channel, frame: CallEnded) -> None:
        """A model call has ended: its full record goes into the ledger, whoever still wants it is answered."""
        call, owed = f"{frame.effect}#{frame.number}", self._engine.owed
        self._held.pop(call, None)
        owed.ended(frame.task, frame.dispatch, call, gateway.name)
        self._record(gateway, frame)
        self._engine.store.barrier(partial(owed.told, call, gateway.name))

    def _record(self, gateway: Channel, frame: CallEnded) -> None:
        task = self._engine.task(frame.task)
        dispatch = self._engine.dispatches.live.get(frame.dispatch)
        effect = dispatch.effects.get(frame.effect) if dispatch is not None else None
        record: dict[str, Any] = decode(frame.record)
        exceeded = record.pop("exceeded", None)
        over = effect is not None and effect.status in ("ended", "stopped")
        recorded = self._recorded(frame.task, frame.effect) if over or effect is None or effect.gateway is None else []
        if effect is not None and not over:  # it was asked for again and looks back: there it finds a result, and no call that was cut off
            recorded = [fact for fact in recorded if isinstance(fact, e.ModelCalled)]
        if over or recorded:
            self._record_late(gateway, frame, record, recorded)
            self._stop(task, exceeded, record)  # the orchestrator before may have died before it did
            return
        if effect is not None and effect.gateway is gateway:
            gateway.load -= 1
        elif effect is not None:
            self.cancel(effect)  # another one makes it for nothing
        if dispatch is not None and effect is None:  # this orchestrator is new and hears of the call here first
            effect = dispatch.effects.setdefault(frame.effect, EffectState(frame.effect, "model", "", dispatch.attempt))
        attempt = dispatch.attempt if dispatch is not None else ""
        instead_of = effect.instead_of if effect is not None else ""
        said: dict[str, Any] = {
            "effect": frame.effect,
            "dispatch": frame.dispatch,
            "attempt": attempt,
            "instead_of": instead_of,
            "gateway": gateway.name,
        }
        fact = e.ModelCalled(**said, **record)
        error = from_wire(record["error"]) if record["error"] else None
        then = partial(self._engine.effects.answer, dispatch, effect) if dispatch is not None and effect is not None else None
        if exceeded is not None:
            more = e.EstimateExceeded(frame.effect, frame.dispatch, record["model"], exceeded["meters"])
            self._engine.record(task, more, task_id=frame.task)
        self._engine.record(task, fact, then, task_id=frame.task)
        self._stop(task, exceeded, record)
        if dispatch is not None and task is not None and isinstance(error, BudgetExceeded):
            self._engine.end(task, Outcome.BUDGET_EXCEEDED, str(error), error=error.to_wire())

    def _stop(self, task: TaskState | None, exceeded: dict[str, Any] | None, record: dict[str, Any]) -> None:
        """An endpoint that reports more than it was bound to takes limits with it: the task ends."""
        if exceeded is None or not exceeded["stops"] or task is None or task.outcome:
            return
        over = [f"{said['reported']} {meter} where {said['reserved']} were held" for meter, said in exceeded["meters"].items()]
        error = EstimateWrong(model=record["model"], endpoint=record["endpoint"], over=" and ".join(over))
        self._engine.end(task, Outcome.BUDGET_EXCEEDED, str(error), error=error.to_wire())

    def _recorded(self, task: str, effect: str) -> list[e.ModelCalled | e.ModelCutOff]:
        """What the ledger says of a model call."""
        entries = (one.open() for one in self._engine.store.entries(task) if one.kind in (e.ModelCalled.KIND, e.ModelCutOff.KIND))
        return [fact for fact in entries if isinstance(fact, e.ModelCalled | e.ModelCutOff) and fact.effect == effect]

    def _record_late(
        self, gateway: Channel, frame: CallEnded, record: dict[str, Any], recorded: list[e.ModelCalled | e.ModelCutOff]
    ) -> None:
        """The call has its result. Either this is that one again, for its gateway did not hear that it is durable; or another gateway
        made it too, and what that cost is said."""
        if not record["tries"] or any(fact.gateway in ("", gateway.name) for fact in recorded):
            return
        usage = record["usage"]
        charged = {INPUT: usage["input_tokens"], OUTPUT: usage["output_tokens"], STEPS: 1}
        charged[TOKENS] = charged[INPUT] + charged[OUTPUT]
        money = {USD: record["price"]} if record["price"] is not None else {}
        fact = e.ModelCutOff(frame.effect, frame.dispatch, gateway.name, frame.number, {**charged, **money}, late=True)
        self._engine.record(self._engine.tasks.get(frame.task), fact, task_id=frame.task)

    def gateway_opened(self, gateway: Channel, holds: list[str]) -> None:
        self.gateways.append(gateway)
        for held in holds:
            call, _, dispatch = held.partition(" ")
            self._held[call] = gateway
            self._held_for.setdefault(dispatch, []).append(call)
        self.call_waiting()

    def call_waiting(self) -> None:
        """Make the model calls that wait for a gateway."""
        uncalled, self._uncalled = self._uncalled, []
        for dispatch, effect in uncalled:
            if self._engine.dispatches.live.get(dispatch.id) is dispatch and effect.status == "asked":
                self.call(dispatch, effect)

    def gateway_closed(self, gateway: Channel) -> None:
        """A gateway has died: its calls in flight are spent, and are made once more."""
        if gateway in self.gateways:
            self.gateways.remove(gateway)
        self.breakers.gone(gateway.name)
        self._held = {call: holder for call, holder in self._held.items() if holder is not gateway}
        for dispatch in list(self._engine.dispatches.live.values()):
            for effect in [one for one in dispatch.effects.values() if one.gateway is gateway]:
                self._cut_off(dispatch, effect, gateway.name)
        self._engine.owed.gone(gateway.name)
        self.call_waiting()

    def _cut_off(self, dispatch: DispatchState, effect: EffectState, gateway: str) -> None:
        effect.status = "reserving"  # who asks meanwhile attaches: the second call begins once it is durable that the first one was lost
        then = partial(self._call_again, dispatch, effect)
        self._engine.owed.cut_off(dispatch.task, dispatch.id, f"{effect.id}#{effect.number}", gateway, then)

    def _call_again(self, dispatch: DispatchState, effect: EffectState) -> None:
        if self._awaits(dispatch, effect):
            effect.status = "asked"
            self.call(dispatch, effect)

    def abandon(self, dispatch: DispatchState) -> None:
        """It is closed: so are calls for it that an orchestrator before this one had made, whoever has asked for them again since."""
        for call in self._held_for.pop(dispatch.id, ()):
            if (gateway := self._held.get(call)) is not None:
                gateway.send(CancelCall(call.partition("#")[0]))

    def cancel(self, effect: EffectState) -> None:
        """Nobody waits for it any more."""
        if effect.status == "calling" and effect.gateway is not None:
            effect.gateway.load -= 1
            effect.gateway.send(CancelCall(effect.id))
            effect.gateway = None
