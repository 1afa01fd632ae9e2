"""Deeds: what writes have in common that are one and the same to the world, or set the state of the same thing.

A write asks for its turn; whoever does the same (by its key) or writes to the same (a tool's resource) waits until it has ended and is
known, in order, over all tasks. What was done under a key is remembered in the ledger and answers whoever asks again. What nobody knows is
cleared up as its tool says, by whoever comes next: made again under its key, looked for by the tool's probe, made again once nothing is
left of the process that may have done it; else a human is asked. Only open writes are kept in memory.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from jsonschema_rs import Draft202012Validator

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.late import cost_of
from interlock.orchestrator.state import DispatchState, EffectState, TaskState
from interlock.schemas import entries as e
from interlock.schemas.budget import STEPS
from interlock.schemas.canonical import Fragment, decode, digest
from interlock.schemas.errors import ResultErased
from interlock.schemas.frames import Probe, Probed
from interlock.schemas.ids import DEFAULT_TENANT, derived
from interlock.schemas.ports import Deed, Reservation
from interlock.schemas.specs import ToolSpec

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait between looks at whether a holder is gone, before a human is asked."""


class Holder(NamedTuple):
    """Who may have done what nobody knows: `attempt` of `dispatch`, at the replica `name`."""

    name: str
    dispatch: str
    attempt: str


@dataclass(slots=True)
class _Line:
    """Who has the turn, and who waits for it."""

    turn: str
    waiting: deque[tuple[DispatchState, EffectState]] = field(default_factory=deque)


class Deeds:
    """The engine's desk for writes that touch each other."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._lines: dict[str, _Line] = {}
        self._clearing: set[str] = set()  # effects of which it is being found out whether they happened

    # --- turns -----------------------------------------------------------------------------------------------------------

    def restore(self, dispatch: DispatchState) -> None:
        """A restored dispatch: what it has open or unknown keeps its turn."""
        for effect in dispatch.effects.values():
            if effect.deed and (effect.status in ("granted", "unknown") or effect.to_settle):
                self._lines.setdefault(effect.deed, _Line(effect.id))

    def resume(self, dispatch: DispatchState) -> None:
        """Settle what an orchestrator could not any more, that died right after its end."""
        for effect in dispatch.effects.values():
            if effect.to_settle:
                self.ended(dispatch, effect)

    def is_done(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> bool:
        """Whether it has been done before, under its key."""
        known = self._known(name_of(self._engine.tasks[dispatch.task], effect, spec))
        return known is not None and known.state == "done"

    def enter(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """A write is asked for: it goes on when it has its turn."""
        name = effect.deed if effect.status == "unknown" else name_of(self._engine.tasks[dispatch.task], effect, spec)
        if effect.deed != name:
            self.leave(effect)
            effect.deed = name
        if effect.status != "unknown":
            effect.key = key_of(self._engine.tasks[dispatch.task], effect, spec)
        if not name and effect.status == "unknown":  # an orchestrator died before it had asked, and what waited beside was decided
            self._ask(dispatch, effect, spec, f"nobody knows whether {effect.holder or 'the process that had it'} did it")
            return
        if not name:
            self._engine.effects.reserve(dispatch, effect, spec)
            return
        line = self._lines.setdefault(name, _Line(effect.id))
        if line.turn == effect.id:
            self._turn(dispatch, effect)
        elif all(other is not effect for _, other in line.waiting):
            line.waiting.append((dispatch, effect))

    def leave(self, effect: EffectState) -> None:
        """It holds or wants the turn no more."""
        line = self._lines.get(effect.deed)
        if line is None:
            return
        if line.turn == effect.id:
            self._next(effect.deed, line)
        else:
            line.waiting = deque(one for one in line.waiting if one[1] is not effect)

    def _next(self, name: str, line: _Line) -> None:
        while line.waiting:
            dispatch, effect = line.waiting.popleft()
            if self._may_go_on(dispatch, effect):  # who may not asks again, and is in line then
                line.turn = effect.id
                self._engine.attempt(dispatch.task, self._turn, dispatch, effect)
                return
        del self._lines[name]

    def _may_go_on(self, dispatch: DispatchState, effect: EffectState) -> bool:
        """Whether a replica waits for this effect right now."""
        return (
            not self._engine.detached
            and self._engine.dispatches.live.get(dispatch.id) is dispatch
            and dispatch.replica is not None
            and dispatch.attempt == effect.attempt
            and not dispatch.waits
            and effect.status in ("asked", "unknown")
        )

    def _has_turn(self, effect: EffectState) -> bool:
        line = self._lines.get(effect.deed)
        return line is not None and line.turn == effect.id

    def _turn(self, dispatch: DispatchState, effect: EffectState) -> None:
        spec, known = self._spec(dispatch, effect), self._known(effect.deed)
        if known is not None and known.state == "done":
            self._answer(dispatch, effect, known)
        elif effect.status == "unknown":
            self._clear_up(dispatch, effect, spec, Holder(effect.holder, dispatch.id, effect.granted))
        elif known is not None and known.state == "unknown" and known.effect != effect.id:
            self._clear_up(dispatch, effect, spec, Holder(known.holder, known.dispatch, known.attempt))
        else:
            self._engine.effects.reserve(dispatch, effect, spec)

    def _known(self, name: str) -> Deed | None:
        return self._engine.store.deed(name) if name else None

    def _spec(self, dispatch: DispatchState, effect: EffectState) -> ToolSpec:
        return self._engine.router.known_tools[dispatch.agent, effect.name]

    # --- ends ------------------------------------------------------------------------------------------------------------

    def _answer(self, dispatch: DispatchState, effect: EffectState, known: Deed) -> None:
        """It was done before: the first result, also where the arguments were others then, which is said. Where that was erased with its
        task only this is known, that it is done."""
        engine, first, settled = self._engine, self._result(known), self._engine.store.entry(known.seq).open()
        differ = isinstance(settled, e.DeedSettled) and digest(decode(effect.args)) != settled.digest
        ok, value = True, first.value
        if isinstance(value, e.Gone):
            ok, value, differ = False, ResultErased(tool=effect.name, task=known.task).to_wire(), False
        if effect.unbegun:
            engine.effects.give_back(effect)
        elif known.effect == effect.id:
            engine.effects.settle(effect.id, cost_of(self._spec(dispatch, effect)))
        said = (effect.id, dispatch.id, effect.attempt, effect.name, ok, value, 0.0, first.cut, known.effect, differ)
        engine.record(engine.tasks[dispatch.task], e.EffectEnded(*said), partial(engine.effects.answer, dispatch, effect))
        self.leave(effect)

    def _result(self, known: Deed) -> e.EffectEnded:
        """The end that was recorded of it: right before it was settled, but for a crash just then."""
        store = self._engine.store
        for entry in (store.entry(known.seq - 1), *store.entries(known.task)):
            if entry.kind == e.EffectEnded.KIND and isinstance(fact := entry.open(), e.EffectEnded) and fact.effect == known.effect:
                return fact
        raise LookupError(f"the ledger says that {known.effect} is done and has no end of it")

    def ended(self, dispatch: DispatchState, effect: EffectState) -> None:
        """How it ended has just been recorded: remembered where that counts, and the next one has its turn."""
        if not effect.deed:
            return
        if effect.to_settle:
            self._settle(dispatch.task, effect, dispatch.id, effect.granted or effect.attempt, effect.ok and effect.keyed)
            self._engine.store.barrier(partial(self.leave, effect))  # who comes next reads that it is done
        else:
            self.leave(effect)

    def ended_late(self, task: str, known_as: str, effect: EffectState, dispatch: str) -> None:
        """The end of a write that nobody waits for has just been recorded: it is known now, unless others have gone on since."""
        known = self._known(known_as)
        if known is not None and (known.state, known.effect) == ("unknown", effect.id) and known_as not in self._lines:
            effect.deed = known_as
            self._settle(task, effect, dispatch, known.attempt, effect.ok and effect.keyed)

    def did_not_happen(self, dispatch: DispatchState, effect: EffectState) -> None:
        """A human has said so."""
        known = self._known(effect.deed)
        if known is not None and (known.state, known.effect) == ("unknown", effect.id):
            self._settle(dispatch.task, effect, dispatch.id, effect.granted or effect.attempt, False)

    def _settle(self, task: str, effect: EffectState, dispatch: str, attempt: str, done: bool) -> None:
        fact = e.DeedSettled(effect.deed, effect.id, dispatch, attempt, effect.name, digest(decode(effect.args)), done)
        self._engine.record(self._engine.tasks.get(task), fact, task_id=task)

    # --- what nobody knows -----------------------------------------------------------------------------------------------

    def _clear_up(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, holder: Holder) -> None:
        """Whether it happened is not known: do as the tool says."""
        assert spec.repeat is not None
        if spec.repeat.kind == "keyed" and not spec.repeat.probe:
            self._engine.effects.reserve(dispatch, effect, spec)
        elif effect.id not in self._clearing:
            self._clearing.add(effect.id)
            self._engine.background(self._find_out(dispatch, effect, spec, holder), dispatch.task)

    async def _find_out(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, holder: Holder) -> None:
        try:
            quiet = await self.is_quiet(holder)
        finally:
            self._clearing.discard(effect.id)
        if not self._may_go_on(dispatch, effect) or not self._has_turn(effect):
            return  # whoever has the dispatch next asks again
        if not quiet:
            self._ask(dispatch, effect, spec, f"nobody can confirm that nothing is left of {holder.name or 'the process that had it'}")
        elif spec.repeat is not None and spec.repeat.probe:
            await self._look(dispatch, effect, spec)
        else:
            self._engine.effects.reserve(dispatch, effect, spec)

    async def is_quiet(self, holder: Holder) -> bool:
        """Whether nothing of it runs any more where it was granted: let go of by a replica that lives, or its process seen to be gone."""
        engine = self._engine
        for pause in PAUSES if holder.name else ():
            await asyncio.sleep(pause)
            channel = engine.peers.channels.get(holder.name)
            if engine.detached:
                return False
            if channel is None:
                if await engine.gone(holder.name):
                    return True
            elif channel.open and not engine.dispatches.is_letting_go(holder.dispatch, holder.attempt):
                return True
        return False

    async def _look(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec) -> None:
        """Have the replica that waits for the effect run the tool's probe."""
        id = _probe_id(effect.id, effect.attempt)
        (grant,) = await self._engine.budgets.reserve([Reservation(id, dispatch.task, {STEPS: 1}, {}, 0, 0)])
        if not self._may_go_on(dispatch, effect) or dispatch.replica is None:
            if effect.attempt != dispatch.attempt or self._engine.dispatches.live.get(dispatch.id) is not dispatch:
                self._engine.effects.settle(id, {})  # nobody looks under this name any more
            return
        if grant.error is not None:
            self._engine.effects.refuse(dispatch, effect, grant.error)
        else:
            dispatch.replica.send(Probe(dispatch.id, effect.id, effect.key or key_of(self._engine.tasks[dispatch.task], effect, spec)))

    def probed(self, replica: Channel, frame: Probed) -> None:
        """What the probe has found."""
        engine = self._engine
        engine.effects.settle(_probe_id(frame.effect, frame.attempt), {STEPS: 1})
        dispatch = engine.dispatches.current(replica, frame.dispatch, frame.attempt)
        effect = dispatch.effects.get(frame.effect) if dispatch is not None else None
        if dispatch is None or effect is None or not self._has_turn(effect) or not self._may_go_on(dispatch, effect):
            return
        spec, task = self._spec(dispatch, effect), engine.tasks[dispatch.task]
        answer, value = frame.answer, Fragment(frame.value)
        why, found = "its probe cannot tell", f" ({decode(frame.value)})"
        if answer == "happened" and not Draft202012Validator(spec.returns, validate_formats=False).is_valid(decode(frame.value)):
            answer, why, found = "cannot_tell", "its probe says that it did, with a result that is none of this tool", ""
        engine.record(task, e.EffectProbed(effect.id, dispatch.id, frame.attempt, effect.name, answer, value))
        if answer == "happened":
            engine.effects.settle(effect.id, cost_of(spec))
            fact = e.EffectEnded(effect.id, dispatch.id, frame.attempt, effect.name, True, value, 0.0)
            engine.record(task, fact, partial(engine.effects.answer, dispatch, effect))
            self.ended(dispatch, effect)
        elif answer == "not_happened":
            engine.effects.reserve(dispatch, effect, spec)
        else:
            self._ask(dispatch, effect, spec, why, found)

    def _ask(self, dispatch: DispatchState, effect: EffectState, spec: ToolSpec, why: str, found: str = "") -> None:
        """Only a human can say. `why` stays on record for ever: what the tool `found` is said to the human alone."""
        engine = self._engine
        holder = effect.holder or (dispatch.replica.name if dispatch.replica is not None else "")
        said = (effect.id, dispatch.id, effect.granted or effect.attempt, effect.name, why, "ask", effect.deed, holder)
        engine.record(engine.tasks[dispatch.task], e.EffectUnknown(*said, digest(decode(effect.args))))
        engine.inbox.ask_unknown(dispatch, effect, spec, why + found)
        engine.inbox.advance(dispatch)


def name_of(task: TaskState, effect: EffectState, spec: ToolSpec) -> str:
    """The deed's name: its key, or the resource that it writes to; none where a second call would be a second deed. A resource is one and
    the same thing outside, whoever writes to it: all tenants take turns at it, and none hears of another's results."""
    if spec.repeat is None or spec.repeat.kind == "never":
        return ""
    if spec.repeat.kind == "keyed":
        return key_of(task, effect, spec)
    return derived("res", DEFAULT_TENANT, spec.system, spec.repeat.key, _named(effect, spec.repeat.key))


def key_of(task: TaskState, effect: EffectState, spec: ToolSpec) -> str:
    """The idempotency key: of a keyed tool the deed's own name within its scope and its task's tenant, else the effect's."""
    if spec.repeat is None or spec.repeat.kind != "keyed":
        return effect.id
    scope = task.id if spec.repeat.scope == "task" else "bus"
    return derived("key", task.tenant, spec.name, scope, _named(effect, spec.repeat.key))


def _named(effect: EffectState, argument: str) -> str:
    return digest(decode(effect.args).get(argument, ""))


def _probe_id(effect: str, attempt: str) -> str:
    return derived("eff", effect, "probe", attempt)
