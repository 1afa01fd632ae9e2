"""What the orchestrator knows of a task, as a fold of its entries.

`apply` is the only place where a recorded fact changes a task: the live engine calls it as it appends, recovery calls it on what was
stored, so both come to the same state. What is not recorded (which replica works, which runner holds the workflow) is set by the
engine beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.effect_state import EffectState as EffectState
from interlock.orchestrator.item_state import Item as Item
from interlock.orchestrator.working import COUNTED, count_wait
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode, digest, encode
from interlock.schemas.envelope import parted
from interlock.schemas.errors import Stopped, from_wire
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.labels import TRUSTED, Label, decode_label
from interlock.schemas.record import State
from interlock.schemas.turns import NORMAL


def raw(value: Any) -> bytes:
    """The JSON bytes of an entry's field, whether it is still a fragment or was read back."""
    return encode(value)


@dataclass(slots=True)
class DispatchState:
    """One message's work until its reply. `ours`: this orchestrator has sent it, and no other, so knows all of it. `waits`: it has
    something in the inbox and was not handed out again since; `noted` is the last note of its agent about itself; `suspended` names the
    item for which its replica let go of it. `ended` are its tool calls in the order in which they ended. `envelope` is there only while
    stored entries are folded: most dispatches have ended by the last one, and `head` and `data` are made for those that have not."""

    id: str
    n: int
    agent: str
    returns: list[str]
    head: bytes
    data: bytes
    attempt: str
    label: Label
    task: str
    envelope: Any = None
    migrated: list[str] = field(default_factory=list)
    suspended: str = ""
    waits: bool = False
    lost: int = 0
    noted: int = 0
    ours: bool = False
    replica: Channel | None = None
    effects: dict[str, EffectState] = field(default_factory=dict)
    ended: list[EffectState] = field(default_factory=list)

    @property
    def writing(self) -> bool:
        """Whether a granted write is under way, of which nobody knows the end yet."""
        return any(effect.status == "granted" and effect.kind in ("write", "irreversible") for effect in self.effects.values())

    def evidence(self) -> bytes:
        """What its tools answered, in order, as JSON for the workflow; empty where it used none."""
        if not self.ended:
            return b""
        return encode([one.evidence() for one in self.ended])


@dataclass(slots=True)
class TaskState:
    """One task. `commands` and `events` count what is recorded; `rested` is the event after which its runner last came to rest, -1 where
    that has not done so yet; `posts` are the messages that were sent into it, by their ids, each with a digest of what it said.
    `strikes`: how many runners were lost in a row in the middle of it, the last after event `struck`; `losses` of them there were in all.
    Once it has come to rest there it is `cleared`, until the next one.
    `known` is the last event that an orchestrator before this one may have acted on, -1 where none has; `moved` is the time of the last
    fact; `parked` says that this was that it leaves memory. For `messages`, `waited` and `waits_from` (microseconds) see `working.py`;
    `neared` are the meters whose limits are nearly used up; `undos` counts what is registered to be undone."""

    id: str
    type: str = ""
    accepted: int = 0
    request: bytes = b""
    contract: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    tenant: str = DEFAULT_TENANT
    priority: str = NORMAL
    deadline: str = ""
    label: Label = TRUSTED
    commands: int = 0
    events: int = 0
    rested: int = -1
    asks: dict[int, DispatchState] = field(default_factory=dict)
    dispatches: dict[str, DispatchState] = field(default_factory=dict)
    timers: dict[int, int] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    posts: dict[str, str] = field(default_factory=dict)
    strikes: int = 0
    struck: int = 0
    losses: int = 0
    cleared: bool = False
    diverged: bool = False
    divergence: str = ""
    sides: Any = None
    outcome: str = ""
    ended: e.TaskEnded | None = None
    known: int = -1
    moved: int = 0
    parked: bool = False
    messages: int = 0
    undos: int = 0
    waited: int = 0
    waits_from: int = 0
    neared: tuple[str, ...] = ()
    runner: Channel | None = None

    @property
    def open_items(self) -> list[Item]:
        return [item for item in self.items.values() if not item.decision]

    @property
    def state(self) -> State:
        if self.outcome:
            return State.ENDED
        if self.diverged:
            return State.DIVERGED
        return State.WAITING if self.open_items else State.RUNNING


def apply(task: TaskState, fact: e.Fact, at: int) -> None:
    """Fold one fact into the task."""
    task.moved, task.parked = at, False
    step = _STEPS.get(type(fact))
    if step is not None:
        step(task, fact, at)
        if task.items:
            count_wait(task, at)


def fold(id: str, entries: list[e.Entry]) -> TaskState:
    """The task that these entries tell."""
    task = TaskState(id)
    for entry in entries:
        apply(task, entry.open(), entry.at)
    for dispatch in task.dispatches.values():
        dispatch.head, dispatch.data = parted(dispatch.envelope)
        dispatch.envelope = None
    return task


def _accepted(task: TaskState, fact: e.TaskAccepted, at: int) -> None:
    task.type, task.accepted, task.by, task.tenant, task.priority = fact.type, at, fact.by, fact.tenant, fact.priority
    task.request, task.limits, task.label = raw(fact.request), fact.limits, decode_label(fact.label)
    task.contract = f"{fact.contract} {fact.contract_version}"


def _posted(task: TaskState, fact: e.MessagePosted, at: int) -> None:
    task.label = task.label.join(decode_label(fact.label))
    task.posts[fact.message] = said(fact)
    task.events += 1


def said(fact: e.MessagePosted) -> str:
    """A digest of what a message into a task said: the same contract with the same data, whichever version was named."""
    envelope = decode(raw(fact.envelope))
    return digest([envelope["type"], envelope["data"]])


def _sent(task: TaskState, fact: e.MessageSent, at: int) -> None:
    asked = (fact.dispatch, fact.n, fact.agent, fact.returns, b"", b"", fact.attempt)
    dispatch = DispatchState(*asked, decode_label(fact.label), task.id, fact.envelope, fact.migrated)
    task.asks[fact.n] = task.dispatches[fact.dispatch] = dispatch
    task.commands = fact.n
    task.messages += 1


def _attempted(task: TaskState, fact: e.DispatchAttempted, at: int) -> None:
    dispatch = task.dispatches[fact.dispatch]
    dispatch.attempt, dispatch.suspended, dispatch.waits = fact.attempt, "", False
    dispatch.lost += fact.lost


def _received(task: TaskState, fact: e.MessageReceived, at: int) -> None:
    task.label = task.label.join(decode_label(fact.label))
    _close_dispatch(task, fact.n, fact.dispatch)
    task.events += 1


def _failed(task: TaskState, fact: e.DispatchFailed, at: int) -> None:
    task.label = task.label.join(decode_label(fact.label))
    _close_dispatch(task, fact.n, fact.dispatch)
    task.events += 1


def _close_dispatch(task: TaskState, n: int, dispatch: str) -> None:
    task.asks.pop(n, None)
    task.dispatches.pop(dispatch, None)


def _suspended(task: TaskState, fact: e.DispatchSuspended, at: int) -> None:
    task.dispatches[fact.dispatch].suspended = fact.item


def _dead_lettered(task: TaskState, fact: e.DeadLettered, at: int) -> None:
    task.dispatches[fact.dispatch].lost = fact.lost


def _timer_set(task: TaskState, fact: e.TimerSet, at: int) -> None:
    task.timers[fact.n] = fact.fires
    task.commands = fact.n


def _timer_fired(task: TaskState, fact: e.TimerFired, at: int) -> None:
    task.timers.pop(fact.n, None)
    task.events += 1


def _cancelled(task: TaskState, fact: e.CommandCancelled, at: int) -> None:
    task.cancelled.add(fact.n)
    task.timers.pop(fact.n, None)
    dispatch = task.asks.pop(fact.n, None)
    if dispatch is not None:
        task.dispatches.pop(dispatch.id, None)
    for item in task.open_items:
        if (item.n and item.n == fact.n) or (dispatch is not None and item.dispatch == dispatch.id):
            item.decision = "withdrawn"


def _intended(task: TaskState, fact: e.EffectIntended, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, fact.kind, fact.tool, fact.attempt)
    if effect is not None:
        effect.attempt, effect.status, effect.args = fact.attempt, "granted", raw(fact.args)
        effect.key, effect.deed, effect.granted, effect.holder = fact.key, fact.deed, fact.attempt, fact.replica


def _effect_ended(task: TaskState, fact: e.EffectEnded, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "read", fact.tool, fact.attempt)
    if effect is not None:
        effect.latency_ms, effect.differs = fact.latency_ms, fact.arguments_differ
        effect.settled = bool(fact.same_as)
        _tool_ended(task.dispatches[fact.dispatch], effect, fact.ok, raw(fact.value))


def _effect_refused(task: TaskState, fact: e.EffectRefused, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "read", fact.tool, fact.attempt)
    if effect is None:
        return
    if is_stop(fact.error):
        effect.status = "stopped"
    else:
        _tool_ended(task.dispatches[fact.dispatch], effect, False, encode(fact.error))


def _tool_ended(dispatch: DispatchState, effect: EffectState, ok: bool, value: bytes) -> None:
    if effect.status != "ended":
        dispatch.ended.append(effect)
    effect.status, effect.ok, effect.value = "ended", ok, value


def is_stop(error: Any) -> bool:
    """Whether a wire error says that the task may do nothing more: then its end comes, and no answer."""
    return isinstance(error, dict) and isinstance(from_wire(error), Stopped)


def _effect_unknown(task: TaskState, fact: e.EffectUnknown, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "write", fact.tool, fact.attempt)
    if effect is not None:
        effect.status, effect.doubted = "unknown", True
        effect.deed, effect.holder, effect.granted = fact.deed, fact.replica, fact.attempt


def _lapsed(task: TaskState, fact: e.GrantLapsed, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "read", fact.tool, fact.attempt)
    if effect is not None:
        effect.status = "asked"


def _deed_settled(task: TaskState, fact: e.DeedSettled, at: int) -> None:
    dispatch = task.dispatches.get(fact.dispatch)
    if dispatch is not None and fact.effect in dispatch.effects:
        dispatch.effects[fact.effect].settled = True


def _model_called(task: TaskState, fact: e.ModelCalled, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "model", fact.model, fact.attempt)
    if effect is not None:
        effect.status, effect.gateway, effect.ok = "stopped" if is_stop(fact.error) else "ended", None, fact.error is None
        effect.value = raw(fact.response if effect.ok else fact.error)


def _cut_off(task: TaskState, fact: e.ModelCutOff, at: int) -> None:
    effect = _effect(task, fact.dispatch, fact.effect, "model", "", "")
    if effect is not None:
        effect.number, effect.gateway = fact.number + 1, None


def _noted(task: TaskState, fact: e.ContextFolded | e.SelfChecked, at: int) -> None:
    if fact.dispatch in task.dispatches:
        task.dispatches[fact.dispatch].noted = fact.n


def _effect(task: TaskState, dispatch: str, id: str, kind: str, name: str, attempt: str) -> EffectState | None:
    """The effect, made where it is new; none where its dispatch is closed: a late fact changes nothing."""
    owner = task.dispatches.get(dispatch)
    if owner is None:
        return None
    return owner.effects.setdefault(id, EffectState(id, kind, name, attempt))


def _asked(task: TaskState, fact: e.ItemAsked, at: int) -> None:
    task.items[fact.item] = Item(fact.item, task.id, fact.kind, fact.expires, fact.n, fact.dispatch, fact.effect, digest=fact.digest)
    if fact.n:
        task.commands = fact.n
    dispatch = task.dispatches.get(fact.dispatch)
    if dispatch is not None:
        dispatch.waits = True


def _decided(task: TaskState, fact: e.ItemDecided, at: int) -> None:
    item = task.items[fact.item]
    item.decision, item.by, item.note = fact.decision, fact.by, fact.note
    if fact.n and fact.decision != "expired":
        task.events += 1
    dispatch = task.dispatches.get(item.dispatch)
    effect = dispatch.effects.get(item.effect) if dispatch is not None else None
    if item.kind == "unknown" and fact.decision == "denied" and effect is not None and effect.status == "unknown":
        effect.status = "asked"
    if item.kind == "diverged" and fact.decision == "approved":
        task.diverged, task.rested = False, -1
    if item.kind == "dead" and item.dispatch in task.dispatches:
        task.dispatches[item.dispatch].lost = 0


def _diverged(task: TaskState, fact: e.TaskDiverged, at: int) -> None:
    task.diverged, task.divergence, task.sides = True, fact.error["message"], fact.error["facts"].get("sides")


def _runner_lost(task: TaskState, fact: e.RunnerLost, at: int) -> None:
    task.strikes, task.struck, task.cleared = fact.strike, fact.event, False
    task.losses += 1


def _parked(task: TaskState, fact: e.TaskParked, at: int) -> None:
    task.rested, task.parked = task.events, True
    task.cleared = task.rested >= task.struck


def _ended(task: TaskState, fact: e.TaskEnded, at: int) -> None:
    task.outcome, task.ended = fact.outcome, fact
    task.asks.clear()
    task.dispatches.clear()
    task.timers.clear()


_STEPS: dict[type[e.Fact], Callable[[TaskState, Any, int], None]] = {
    e.TaskAccepted: _accepted,
    e.MessagePosted: _posted,
    e.MessageSent: _sent,
    e.DispatchAttempted: _attempted,
    e.MessageReceived: _received,
    e.DispatchFailed: _failed,
    e.DispatchSuspended: _suspended,
    e.DeadLettered: _dead_lettered,
    e.TimerSet: _timer_set,
    e.TimerFired: _timer_fired,
    e.CommandCancelled: _cancelled,
    e.EffectIntended: _intended,
    e.EffectEnded: _effect_ended,
    e.EffectRefused: _effect_refused,
    e.EffectUnknown: _effect_unknown,
    e.GrantLapsed: _lapsed,
    e.DeedSettled: _deed_settled,
    e.ModelCalled: _model_called,
    e.ModelCutOff: _cut_off,
    e.ContextFolded: _noted,
    e.SelfChecked: _noted,
    e.ItemAsked: _asked,
    e.ItemDecided: _decided,
    e.TaskDiverged: _diverged,
    e.RunnerLost: _runner_lost,
    e.TaskParked: _parked,
    e.TaskEnded: _ended,
    **COUNTED,
}
