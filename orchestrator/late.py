"""Ends of writes that come late: when their dispatch is closed, or somebody else has it by now.

An intent whose end was not heard of is unknown, and stays so only as long as nobody can say. Whoever did it may still tell, after whatever
crash: the ledger knows which intents there were, so nothing has to be kept in memory for that.
"""

from functools import partial
from typing import TYPE_CHECKING

from interlock.orchestrator.state import DispatchState, EffectState, raw
from interlock.schemas import entries as e
from interlock.schemas.budget import STEPS, Amount, writes_meter
from interlock.schemas.canonical import Fragment, decode
from interlock.schemas.errors import StaleAttempt
from interlock.schemas.frames import ToolEnded
from interlock.schemas.specs import ToolSpec

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine


class LateEnds:
    """What becomes of the end of a tool call that is not that of a current attempt."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._recording: set[str] = set()  # effects whose late end is on its way to the ledger

    def ended(self, frame: ToolEnded) -> None:
        """Record it: as the end of its effect where nobody knew that, else as a reply that came too late."""
        self._engine.task(frame.task)
        intent = self._intended(frame)
        spec = self._engine.router.known_tools.get((intent[0], frame.tool)) if intent is not None else None
        if intent is None or spec is None or (not frame.ok and stays_unknown(spec, frame.value)):
            return
        dispatch = self._engine.dispatches.live.get(frame.dispatch)
        effect = dispatch.effects.get(frame.effect) if dispatch is not None else None
        if effect is None or dispatch is None:
            self._record(frame, spec, intent[1])
        elif effect.status in ("unknown", "asked", "reserving"):
            self._record(frame, spec, intent[1])
            self._engine.store.barrier(partial(self._engine.effects.answer, dispatch, effect))
            self._engine.inbox.answered(dispatch, effect)
        elif effect.attempt != frame.attempt:
            self._refuse(frame, dispatch)

    def _intended(self, frame: ToolEnded) -> tuple[str, e.EffectIntended] | None:
        """The intent that this attempt was granted and of which the ledger has no end, and its agent; none where there is none such."""
        agent, intent = "", None
        for entry in self._engine.store.entries(frame.task):
            fact = entry.open()
            if isinstance(fact, e.MessageSent) and fact.dispatch == frame.dispatch:
                agent = fact.agent
            elif isinstance(fact, e.EffectIntended) and fact.effect == frame.effect:
                intent = fact if fact.attempt == frame.attempt else intent
            elif isinstance(fact, e.EffectEnded) and fact.effect == frame.effect and not self._is_live(frame):
                return None
        return (agent, intent) if intent is not None and frame.effect not in self._recording else None

    def _is_live(self, frame: ToolEnded) -> bool:
        return frame.dispatch in self._engine.dispatches.live

    def _record(self, frame: ToolEnded, spec: ToolSpec, intent: e.EffectIntended) -> None:
        self._recording.add(frame.effect)
        self._engine.effects.settle(frame.effect, cost_of(spec))
        value = Fragment(frame.value)
        fact = e.EffectEnded(frame.effect, frame.dispatch, frame.attempt, frame.tool, frame.ok, value, frame.latency_ms, frame.cut)
        recorded = partial(self._recording.discard, frame.effect)
        self._engine.record(self._engine.tasks.get(frame.task), fact, recorded, task_id=frame.task)
        dispatch = self._engine.dispatches.live.get(frame.dispatch)
        effect = dispatch.effects.get(frame.effect) if dispatch is not None else None
        if dispatch is not None and effect is not None:
            self._engine.deeds.ended(dispatch, effect)
        else:
            known = EffectState(
                frame.effect, intent.kind, frame.tool, frame.attempt, "ended", raw(intent.args), ok=frame.ok, key=intent.key
            )
            self._engine.deeds.ended_late(frame.task, intent.deed, known, frame.dispatch)

    def _refuse(self, frame: ToolEnded, dispatch: DispatchState) -> None:
        error = StaleAttempt(attempt=frame.attempt, dispatch=frame.dispatch, current=dispatch.attempt).to_wire()
        self._engine.record(self._engine.tasks.get(frame.task), e.ReplyRefused(frame.dispatch, frame.attempt, error))


def stays_unknown(spec: ToolSpec, value: bytes) -> bool:
    """A call that was cut off by its time limit may have happened; whoever may not repeat it must ask."""
    return decode(value)["code"] == "tool_timeout" and (spec.repeat is None or spec.repeat.kind == "never")


def cost_of(spec: ToolSpec) -> dict[str, Amount]:
    """What one call of a tool takes from the budget: a step, and of a write one side effect on its system."""
    cost: dict[str, Amount] = {STEPS: 1}
    if spec.effect != "read":
        cost[writes_meter(spec.system)] = 1
    return cost
