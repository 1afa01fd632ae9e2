"""Effects: what an agent does to the world, recorded once and answered from the record ever after.

A tool call: permitted? → known already? → approved? → reserve → intent durable → grant → result durable → answer.
A model call goes to the desk for those (`calls.py`).

An effect is named by its content, so whoever asks for the same thing again, after whatever crash, meets the same effect. An intent
without a result whose holder is gone is *unknown*: it is repeated only where the tool says how, else a human is asked.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from jsonschema_rs import Draft202012Validator

from interlock.orchestrator.breakers import ToolBreakers
from interlock.orchestrator.channel import Channel
from interlock.orchestrator.deeds import key_of
from interlock.orchestrator.late import LateEnds, cost_of, stays_unknown
from interlock.orchestrator.state import DispatchState, EffectState
from interlock.schemas import entries as e
from interlock.schemas.budget import STEPS, Amount
from interlock.schemas.canonical import Fragment, decode, digest
from interlock.schemas.errors import AgentFailed, BudgetExceeded, InterlockError, ToolRefused
from interlock.schemas.frames import Answered, EffectAsked, Granted, Lapsed, ToolEnded
from interlock.schemas.ports import Reservation
from interlock.schemas.record import Outcome
from interlock.schemas.specs import ToolSpec
from interlock.schemas.undo import UNDO

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

GRANT_SECONDS = 30.0
"""How long after it has come to its replica a grant is good for."""


class Effects:
    """The engine's desk for effects: what replicas ask for, grants, ends."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._late = LateEnds(engine)
        self.breakers = ToolBreakers(engine.clock)

    # --- a replica asks ------------------------------------------------------------------------------------------------

    def asked(self, replica: Channel, frame: EffectAsked) -> None:
        dispatch = self._engine.dispatches.current(replica, frame.dispatch, frame.attempt)
        if dispatch is None:
            return
        effect = dispatch.effects.setdefault(
            frame.effect, EffectState(frame.effect, frame.kind, frame.name, frame.attempt, args=frame.args)
        )
        if effect.args != frame.args and not self._same_deed(effect, frame):
            self._refuse_other(dispatch, effect)
            return
        if effect.status == "ended":
            self._engine.store.barrier(partial(self.answer, dispatch, effect))
        elif effect.status == "granted" and effect.attempt == frame.attempt:
            self._engine.store.barrier(partial(self._grant, dispatch, effect))  # it was lost on the way, or its intent is not durable yet
        elif effect.status in ("calling", "reserving"):
            effect.attempt = frame.attempt  # attach: the answer goes to who asks now
        elif effect.status == "stopped":
            return
        elif effect.kind == "model":
            effect.attempt, effect.name, effect.instead_of = frame.attempt, frame.name, frame.instead_of
            self._engine.calls.call(dispatch, effect)
        else:
            effect.attempt = frame.attempt
            self._begin_tool(dispatch, effect)

    def _same_deed(self, effect: EffectState, frame: EffectAsked) -> bool:
        """Whether this is the deed that the effect's name stands for. What has not begun may be asked for anew; its approval then no
        longer fits."""
        if not effect.args or effect.kind == "model" or effect.status in ("asked", "ended") or _digest(effect.args) == _digest(frame.args):
            effect.args = frame.args
            return True
        return False

    def _refuse_other(self, dispatch: DispatchState, effect: EffectState) -> None:
        """The name of a deed that was granted is used for another one: its agent is broken, and is not let near the world again."""
        problem = f"it asked for {effect.name} with other arguments under the name of a call that was granted already"
        self._engine.dispatches.release(dispatch, problem)
        self._engine.dispatches.fail(dispatch, AgentFailed(agent=dispatch.agent, contract="its message", problem=problem))

    def answer(self, dispatch: DispatchState, effect: EffectState) -> None:
        if dispatch.replica is not None and effect.status == "ended" and self._engine.dispatches.live.get(dispatch.id) is dispatch:
            dispatch.replica.send(Answered(dispatch.id, effect.id, effect.ok, effect.value, effect.differs))

    # --- tools -----------------------------------------------------------------------------------------------------------

    def _begin_tool(self, dispatch: DispatchState, effect: EffectState) -> None:
        spec = self._engine.router.tools.get((dispatch.agent, effect.name))
        if spec is None or spec.effect != effect.kind:
            self.refuse(dispatch, effect, _not_yours(dispatch, effect, spec))
            return
        if spec.effect == "read":
            self.reserve(dispatch, effect, spec)
            return
        deeds, inbox = self._engine.deeds, self._engine.inbox
        if spec.effect == "irreversible" and not inbox.approved(dispatch, effect) and not deeds.is_done(dispatch, effect, spec):
            self._ask_approval(dispatch, effect, spec)
        elif not dispatch.waits:  # else it is about to be suspended; whoever gets it next asks again
            deeds.enter(dispatch, effect, spec)

    def _ask_approval(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """Nobody is asked to approve what would not be called now; what somebody has approved is called."""
        if (broken := self.breakers.broken(spec)) is not None:
            self.refuse(dispatch, effect, broken)
        else:
            self._engine.inbox.ask_approval(dispatch, effect, spec)

    def reserve(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """A tool call goes on: it needs its reservation, a write its intent, then it is granted. While its system is out of order it is
        refused, but for what may have happened before: that is cleared up."""
        fresh = effect.status != "unknown" and not effect.doubted and spec.effect != "irreversible"
        if fresh and (broken := self.breakers.broken(spec)) is not None:
            self.refuse(dispatch, effect, broken)
            return
        effect.status = "reserving"
        self._engine.background(self._reserve(dispatch, effect, spec, fresh), dispatch.task)

    async def _reserve(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, fresh: bool) -> None:
        (grant,) = await self._engine.budgets.reserve([Reservation(effect.id, dispatch.task, cost_of(spec), {}, 0, 0)])
        effect.held = grant.error is None
        if effect.status == "stopped":
            self.give_back(effect)
        if self._engine.detached or self._engine.dispatches.live.get(dispatch.id) is not dispatch:
            return
        if effect.status != "reserving" or dispatch.effects.get(effect.id) is not effect:
            return
        if effect.attempt != dispatch.attempt or (dispatch.waits and spec.effect != "read"):
            effect.status = "asked"  # whoever has the dispatch next asks again
        elif grant.error is not None:
            self.refuse(dispatch, effect, grant.error)
        elif fresh and (broken := self.breakers.stops(spec)) is not None:  # only who may really call is the one that tries
            self.refuse(dispatch, effect, broken)
        elif spec.effect == "read":
            effect.status = "granted"
            if not self._engine.stalls(partial(self._grant, dispatch, effect)):
                self._grant(dispatch, effect)
        else:
            self._intend(dispatch, effect, spec)

    def _intend(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        task = self._engine.tasks[dispatch.task]
        args = decode(effect.args)
        fact = e.EffectIntended(
            effect=effect.id,
            dispatch=dispatch.id,
            attempt=effect.attempt,
            kind=spec.effect,
            tool=spec.name,
            args=Fragment(effect.args),
            digest=digest(args),
            key=effect.key or key_of(task, effect, spec),
            system=spec.system,
            deed=effect.deed,
            replica=dispatch.replica.name if dispatch.replica is not None else "",
        )
        self._engine.record(task, fact, partial(self._grant, dispatch, effect))

    def _grant(self, dispatch: DispatchState, effect: EffectState) -> None:
        if dispatch.replica is None or dispatch.attempt != effect.attempt or self._engine.dispatches.live.get(dispatch.id) is not dispatch:
            return
        spec = self._engine.router.known_tools[dispatch.agent, effect.name]
        key = effect.key or key_of(self._engine.tasks[dispatch.task], effect, spec)
        dispatch.replica.send(Granted(dispatch.id, effect.id, key, GRANT_SECONDS))

    def lapsed(self, replica: Channel, frame: Lapsed) -> None:
        """A replica did not begin in time: nothing has happened. It asks again."""
        dispatch = self._engine.dispatches.current(replica, frame.dispatch, frame.attempt)
        effect = dispatch.effects.get(frame.effect) if dispatch is not None else None
        if dispatch is not None and effect is not None and (effect.status, effect.attempt) == ("granted", frame.attempt):
            self._engine.record(self._engine.tasks[dispatch.task], e.GrantLapsed(effect.id, dispatch.id, frame.attempt, effect.name))

    def refuse(self, dispatch: DispatchState, effect: EffectState, error: InterlockError) -> None:
        """No grant. A limit that is reached ends the task, a fence means that an order is about to; everything else is told to the agent
        as the call's failure."""
        if effect.unbegun:
            self.give_back(effect)
        task = self._engine.tasks[dispatch.task]
        if task.type == UNDO and isinstance(error, BudgetExceeded):
            error = self._engine.undos.refusal(effect.name, error)
        fact = e.EffectRefused(effect.id, dispatch.id, effect.attempt, effect.name, error.to_wire())
        self._engine.record(task, fact, partial(self.answer, dispatch, effect))
        self._engine.deeds.leave(effect)
        if isinstance(error, BudgetExceeded):
            self._engine.end(task, Outcome.BUDGET_EXCEEDED, str(error), error=error.to_wire())

    def ended(self, replica: Channel, frame: ToolEnded) -> None:
        """A tool call's result: recorded, then the replica may see it."""
        dispatch = self._engine.dispatches.current(replica, frame.dispatch, frame.attempt)
        if dispatch is None:
            self._late.ended(frame)
            return
        effect = self._granted(dispatch, frame)
        if effect is None or effect.attempt != frame.attempt or effect.status not in ("granted", "ended"):
            return
        if effect.status == "ended":
            self._engine.store.barrier(partial(self.answer, dispatch, effect))
            return
        spec = self._engine.router.known_tools[dispatch.agent, effect.name]
        self.breakers.ended(spec, words_in(frame.value) if frame.outage else "")
        if not frame.ok and spec.effect != "read" and stays_unknown(spec, frame.value):
            self._unknown(dispatch, effect, "it did not end in time")
            self._engine.inbox.advance(dispatch)
            return
        self.settle(effect.id, cost_of(spec))
        task = self._engine.tasks[dispatch.task]
        value = Fragment(frame.value)
        fact = e.EffectEnded(effect.id, dispatch.id, frame.attempt, effect.name, frame.ok, value, frame.latency_ms, frame.cut)
        self._engine.record(task, fact, partial(self.answer, dispatch, effect))
        self._engine.deeds.ended(dispatch, effect)
        self._engine.inbox.advance(dispatch)

    def _granted(self, dispatch: DispatchState, frame: ToolEnded) -> EffectState | None:
        """The effect that has ended. A read has no intent on the ledger: one that an earlier orchestrator granted is taken as it comes."""
        effect = dispatch.effects.get(frame.effect)
        spec = self._engine.router.known_tools.get((dispatch.agent, frame.tool))
        if spec is None or spec.effect != "read" or (effect is not None and effect.status not in ("asked", "reserving")):
            return effect
        effect = dispatch.effects.setdefault(frame.effect, EffectState(frame.effect, "read", frame.tool, frame.attempt))
        effect.status, effect.attempt = "granted", frame.attempt
        return effect

    def give_back(self, effect: EffectState) -> None:
        """It never began. What is held for it goes back once it is durable that nobody will ask for it again: who asked under the same name
        would be let through without."""
        if effect.held and not self._engine.detached:
            effect.held = False
            then = partial(self._engine.store.barrier, partial(self.settle, effect.id, {}))
            asyncio.get_running_loop().call_soon(then)  # what says so may be recorded right after this

    def settle(self, id: str, actual: dict[str, Amount]) -> None:
        self._engine.background(self._engine.budgets.settle(id, actual))

    # --- holders that are gone ---------------------------------------------------------------------------------------------

    def orphaned(self, dispatch: DispatchState, why: str) -> bool:
        """Its holder is gone: settle what its effects are now. False where a human is asked first."""
        for effect in list(dispatch.effects.values()):
            if effect.kind == "read" and effect.status == "granted":
                self.settle(effect.id, {STEPS: 1})
                del dispatch.effects[effect.id]
            elif effect.kind in ("write", "irreversible") and effect.status in ("granted", "unknown"):
                self._unknown(dispatch, effect, why)
        return not dispatch.waits

    def _unknown(self, dispatch: DispatchState, effect: EffectState, why: str) -> None:
        """Record that nobody knows whether it happened, and ask a human where it may not simply be repeated."""
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        spec = engine.router.known_tools[dispatch.agent, effect.name]
        then = cleared_by(spec)
        if engine.inbox.is_asked(dispatch, effect) or (effect.status == "unknown" and then != "ask"):
            return
        engine.record(task, _unknown_fact(dispatch, effect, why, then))
        if then == "ask":
            engine.inbox.ask_unknown(dispatch, effect, spec, why)

    def confirm(self, dispatch: DispatchState, effect: EffectState, note: str) -> None:
        """A human has said that it did happen; a note that is JSON such as the tool returns is its result."""
        spec = self._engine.router.known_tools[dispatch.agent, effect.name]
        value = _result_in(note, spec)
        fact = e.EffectEnded(effect.id, dispatch.id, effect.attempt, effect.name, True, value, 0.0)
        self.settle(effect.id, cost_of(spec))
        self._engine.record(self._engine.tasks[dispatch.task], fact)
        self._engine.deeds.ended(dispatch, effect)

    def abandon(self, dispatch: DispatchState, why: str) -> None:
        """The dispatch is closed: model calls that nobody waits for any more are cancelled, of a write that was granted nobody knows
        whether it happens, and what has not begun holds nothing any more."""
        task = self._engine.tasks[dispatch.task]
        for effect in list(dispatch.effects.values()):
            if effect.status == "granted" and effect.kind in ("write", "irreversible"):
                self._engine.record(task, _unknown_fact(dispatch, effect, why, "none"))
            if effect.deed and effect.status != "ended":
                self._engine.store.barrier(partial(self._engine.deeds.leave, effect))  # who comes next reads what is not known
            if effect.unbegun:
                effect.status = "stopped"
                self.give_back(effect)
            self._engine.calls.cancel(effect)
        self._engine.calls.abandon(dispatch)


def words_in(error: bytes) -> str:
    """What the wire error of a call says is wrong."""
    wire = decode(error)
    return str(wire["facts"].get("problem") or wire["message"])


def _digest(args: bytes) -> str:
    return digest(decode(args))


def _unknown_fact(dispatch: DispatchState, effect: EffectState, why: str, then: str) -> e.EffectUnknown:
    attempt = effect.granted or effect.attempt
    return e.EffectUnknown(effect.id, dispatch.id, attempt, effect.name, why, then, effect.deed, effect.holder, _digest(effect.args))


def cleared_by(spec: ToolSpec) -> str:
    """What is done where nobody knows whether a call of this tool happened."""
    if spec.repeat is None or spec.repeat.kind == "never":
        return "ask"
    if spec.repeat.kind == "natural":
        return "confirm"
    return "probe" if spec.repeat.probe else "repeat"


def _result_in(note: str, spec: ToolSpec) -> Any:
    try:
        value = decode(note)
        if Draft202012Validator(spec.returns, validate_formats=False).is_valid(value):
            return value
    except ValueError:
        pass  # words for people
    return {"confirmed_by_human": True, "note": note}


def _not_yours(dispatch: DispatchState, effect: EffectState, spec: ToolSpec | None) -> ToolRefused:
    problem = f"agent {dispatch.agent} does not have it" if spec is None else f"it is declared {spec.effect}, not {effect.kind}"
    return ToolRefused(
        tool=effect.name, problem=problem, remedy="Deploy the app whose agent declares it; a running replica may be of an older app."
    )
