"""What a task's entries come to: its run record, and a timeline that a person can read.

Both are pure folds, so they say the same on a live bus, on a dead one's file and in an audit years later.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from interlock.schemas import entries as e
from interlock.schemas.budget import INPUT, MESSAGES, OUTPUT, SECONDS, STEPS, TOKENS, USD, Amount, parse_amounts, writes_meter
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.record import Outcome, RunRecord, ToolCall
from interlock.schemas.stops import RESUME, STOP, Selection
from interlock.schemas.times import rfc3339


def run_record(entries: Sequence[e.Entry]) -> RunRecord:
    """What the task did and cost so far; `ValueError` where it was never accepted. An order may stand before the acceptance.

    A step is a model call (one that was cut off counts) or a tool call that was begun; tokens and money are those of recorded calls, and
    of those that were cut off what they were charged.
    """
    facts = [entry.open() for entry in entries]
    begin = next(((fact, entry) for fact, entry in zip(facts, entries, strict=True) if isinstance(fact, e.TaskAccepted)), None)
    if begin is None:
        raise ValueError("there is no task.accepted among these entries")
    accepted, accepted_at = begin[0], begin[1].at
    ends = ((fact, entry.at) for fact, entry in zip(facts, entries, strict=True) if isinstance(fact, e.TaskEnded))
    ended, ended_at = next(ends, (None, None))
    calls = [fact for fact in facts if isinstance(fact, e.ModelCalled)]
    tools = {fact.effect for fact in facts if isinstance(fact, e.EffectIntended)}
    tools |= {fact.effect for fact in facts if isinstance(fact, e.EffectEnded) and not fact.same_as}
    cut_off = [fact for fact in facts if isinstance(fact, e.ModelCutOff)]
    prices = [Decimal(call.price) for call in calls if call.price] + [Decimal(cut.charged.get(USD, 0)) for cut in cut_off]
    return RunRecord(
        task_id=entries[0].task,
        task_type=accepted.type,
        tenant=accepted.tenant,
        start_time=rfc3339(accepted_at),
        end_time=None if ended_at is None else rfc3339(ended_at),
        steps=len(calls) + len(cut_off) + len(tools),
        input_tokens=sum(call.usage.get("input_tokens", 0) for call in calls),
        output_tokens=sum(call.usage.get("output_tokens", 0) for call in calls),
        cut_off_calls=len(cut_off),
        cut_off_tokens=sum(cut.charged.get(TOKENS, 0) for cut in cut_off),
        folds=sum(isinstance(fact, e.ContextFolded) and fact.folded > 0 for fact in facts),
        self_checks=sum(isinstance(fact, e.SelfChecked) for fact in facts),
        cost_usd=f"{sum(prices, Decimal(0)):f}",
        tool_calls=_tool_calls(facts),
        outcome=Outcome(ended.outcome) if ended else None,
        error=_error(ended) if ended else None,
    )


def used_in_all(entries: Sequence[e.Entry]) -> dict[str, tuple[Amount, Amount, Amount | None]]:
    """What a task that has ended used of each of its limits, as it was recorded: used, reserved (nothing any more), limit."""
    facts = [entry.open() for entry in entries]
    record, limits = run_record(entries), limits_in(facts)
    written = {fact.effect: fact.system for fact in facts if isinstance(fact, e.EffectIntended) and fact.system}
    used: dict[str, Amount] = {
        INPUT: record.input_tokens,
        OUTPUT: record.output_tokens,
        TOKENS: record.input_tokens + record.output_tokens + record.cut_off_tokens,
        STEPS: record.steps,
        MESSAGES: sum(isinstance(fact, e.MessageSent) for fact in facts),
        USD: Decimal(record.cost_usd),
        **{writes_meter(system): number for system, number in Counter(written.values()).items()},
    }
    times = [entry.at for entry in entries if entry.kind in (e.TaskAccepted.KIND, e.TaskEnded.KIND)]
    used[SECONDS] = Decimal(times[-1] - times[0]) / 1_000_000
    return {meter: (amount, 0, limits.get(meter)) for meter, amount in used.items()}


def limits_in(facts: Sequence[e.Fact]) -> dict[str, Amount]:
    """The limits that hold after all of this: the task's own, and what operators said of them."""
    limits: dict[str, Any] = {}
    for fact in facts:
        if isinstance(fact, e.TaskAccepted | e.BudgetChanged):
            limits |= fact.limits
    return parse_amounts({meter: amount for meter, amount in limits.items() if amount is not None})


def _tool_calls(facts: Sequence[e.Fact]) -> list[ToolCall]:
    """Every call that ended, and those of which nobody knows how, in order."""
    ended = {fact.effect for fact in facts if isinstance(fact, e.EffectEnded)}
    unknown: set[str] = set()
    calls = []
    for fact in facts:
        if isinstance(fact, e.EffectEnded):
            calls.append(ToolCall(tool=fact.tool, latency_ms=fact.latency_ms, success=fact.ok))
        elif isinstance(fact, e.EffectUnknown) and fact.effect not in ended | unknown:
            unknown.add(fact.effect)
            calls.append(ToolCall(tool=fact.tool, latency_ms=0, success=False))
    return calls


def _in_place_of(fact: e.AppDeployed) -> str:
    names = fact.spec.get("formerly") or ()
    return f", formerly {', '.join(names)}" if names else ""


def _error(ended: e.TaskEnded) -> str | None:
    if ended.outcome == Outcome.SUCCESS:
        return None
    return str(ended.error["message"]) if ended.error else ended.reason


class Line(NamedTuple):
    """One entry for a reader: when, who, did what, at what cost. It never holds the content of a message."""

    seq: int
    at: str
    who: str
    what: str
    cost: str = ""


def timeline(entries: Sequence[e.Entry]) -> list[Line]:
    """A line per entry of a task, in order."""
    agents: dict[str, str] = {}
    lines = []
    for entry in entries:
        fact = entry.open()
        if isinstance(fact, e.MessageSent):
            agents[fact.dispatch] = fact.agent
        who, what, cost = say(fact, agents.get(getattr(fact, "dispatch", ""), "agent"))
        lines.append(Line(entry.seq, rfc3339(entry.at), who, what, cost))
    return lines


Said = tuple[str, str, str]


def say(fact: e.Fact, agent: str = "agent") -> Said:
    """Who, what and at what cost, of one fact; `agent` is the one whose dispatch it is about."""
    return _SAY[type(fact)](fact, agent)


def _code(error: Any) -> str:
    return str(error.get("code", "error")) if isinstance(error, dict) else "error"


def _limits(limits: Mapping[str, Any]) -> str:
    return ", ".join(f"{meter} {'unlimited' if amount is None else amount}" for meter, amount in limits.items())


def _over(meters: Mapping[str, Any]) -> str:
    return ", ".join(f"{said['reported']} {meter} where {said['reserved']} were held" for meter, said in meters.items())


def _for(tenant: str) -> str:
    return "" if tenant == DEFAULT_TENANT else f" for {tenant}"


def _label(label: str) -> str:
    return "" if label == "trusted" else f" [{label}]"


def _said_model(fact: e.ModelCalled, agent: str) -> Said:
    tokens = f"{fact.usage.get('input_tokens', 0)} + {fact.usage.get('output_tokens', 0)} tokens"
    money = f", {fact.price} USD" if fact.price else ""
    tries = f" at try {fact.tries}" if fact.tries > 1 else ""
    end = f"failed: {_code(fact.error)}" if fact.error else "answered"
    instead = f" in the place of {fact.instead_of}" if fact.instead_of else ""
    return agent, f"model {fact.model_reported or fact.model} {end}{tries}{instead}", f"{tokens}{money}, {fact.latency_ms:.0f} ms"


def _said_cut_off(fact: e.ModelCutOff, agent: str) -> Said:
    what = f"model call {fact.number} cut off, charged as reserved: gateway {fact.gateway} is gone"
    if fact.late:
        what = f"model call {fact.number} answered too late, and charged: gateway {fact.gateway} was not the first"
    money = f", {fact.charged[USD]} USD" if USD in fact.charged else ""
    return agent, what, f"{fact.charged[TOKENS]} tokens{money}" if TOKENS in fact.charged else ""


def _said_folded(fact: e.ContextFolded, agent: str) -> Said:
    folded = f", folded its {fact.folded} oldest messages into a note" if fact.folded else ""
    return agent, f"made room in its context: cut {fact.cut} tool results{folded}", f"{fact.before} to {fact.after} bytes"


def _said_check(fact: e.SelfChecked, agent: str) -> Said:
    found = (
        "is on its goal" if fact.on_goal else f"cannot say whether it is on its goal: {fact.problem}" if fact.problem else "is off its goal"
    )
    return agent, f"self-check after {fact.steps} steps: it {found}", ""


def _said_effect(fact: e.EffectEnded, agent: str) -> Said:
    end = "done" if fact.ok else f"failed: {_code(fact.value)}"
    if fact.same_as and not fact.ok:
        return agent, f"tool {fact.tool} was done before under its key; its result was erased", ""
    if fact.same_as:
        differ = ", then with other arguments" if fact.arguments_differ else ""
        return agent, f"tool {fact.tool} was done before under its key{differ}; answered from the record", ""
    return agent, f"tool {fact.tool} {end}{' (result cut)' if fact.cut else ''}", f"{fact.latency_ms:.0f} ms"


def _said_end(fact: e.TaskEnded, _: str) -> Said:
    undo = f"; {fact.undo} undoes what it did" if fact.undo else ""
    return "bus", f"task ended: {fact.outcome}{': ' + fact.reason if fact.reason else ''}{_label(fact.label)}{undo}", ""


_STOPPED = {STOP: "stopped", RESUME: "opened"}


def _said_stop(fact: e.StopCarriedOut) -> str:
    receipt = fact.receipt
    seen = "verified" if receipt.get("verified") else "NOT VERIFIED"
    return f"{receipt.get('selection')} is stopped, {seen}: {receipt.get('tasks')} tasks, {len(receipt.get('processes', ()))} processes"


_SAY: dict[type[e.Fact], Callable[[Any, str], Said]] = {
    e.EpochStarted: lambda f, _: ("bus", f"epoch {f.epoch} started", ""),
    e.AppDeployed: lambda f, _: (f.by, f"deployed app {f.app} {f.version}{_in_place_of(f)}", ""),
    e.ContractRegistered: lambda f, _: (f.by, f"registered contract {f.contract} {f.version}", ""),
    e.StopOrdered: lambda f, _: (f.by, f"{_STOPPED.get(f.what, f.what)} {Selection(f.scope, f.name)}: {f.why}", ""),
    e.StopCarriedOut: lambda f, _: ("supervisor", _said_stop(f), ""),
    e.TaskRefused: lambda f, _: ("bus", f"refused {f.type} from {f.by}: {_code(f.error)}", ""),
    e.TaskAccepted: lambda f, _: (f.by, f"submitted {f.type}{_for(f.tenant)} with {f.contract} {f.contract_version}{_label(f.label)}", ""),
    e.MessagePosted: lambda f, _: (f.by, f"sent {f.contract} into the task{_label(f.label)}", ""),
    e.PostRefused: lambda f, _: ("bus", f"refused {f.contract} from {f.by}: {_code(f.error)}", ""),
    e.TaskDiverged: lambda f, _: ("workflow", "replay differs from the record; the task waits", ""),
    e.RunnerLost: lambda f, _: ("bus", f"runner {f.runner} was lost in the middle of the workflow: {f.why} (strike {f.strike})", ""),
    e.TaskParked: lambda f, _: ("bus", "left memory until something happens", ""),
    e.TaskEnded: _said_end,
    e.OrderRecorded: lambda f, _: (f.by, f"ordered {f.what}: {f.why}", ""),
    e.ReceiptRecorded: lambda f, _: ("supervisor", "receipt of the order", ""),
    e.MessageSent: lambda f, agent: ("workflow", f"asked {agent}{_label(f.label)}", ""),
    e.MessageReceived: lambda f, agent: (agent, f"replied{' (degraded)' if f.degraded else ''}{_label(f.label)}", ""),
    e.DispatchAttempted: lambda f, agent: ("bus", f"handed to {agent} again: {f.why}", ""),
    e.DispatchFailed: lambda f, agent: (agent, f"failed: {_code(f.error)}", ""),
    e.DispatchSuspended: lambda f, agent: (agent, f"waits for a decision on {f.item}", ""),
    e.DeadLettered: lambda f, agent: ("bus", f"dead letter {f.item}: {f.lost} replicas of {agent} ended on it", ""),
    e.ReplyRefused: lambda f, agent: ("bus", f"refused a reply of {agent}: {_code(f.error)}", ""),
    e.TimerSet: lambda f, _: ("workflow", f"sleeps {f.seconds:g} s", ""),
    e.TimerFired: lambda f, _: ("bus", "woke the workflow", ""),
    e.CommandCancelled: lambda f, _: ("workflow", f"cancelled its command {f.n}", ""),
    e.EffectIntended: lambda f, agent: (agent, f"begins tool {f.tool} ({f.kind})", ""),
    e.EffectEnded: _said_effect,
    e.EffectUnknown: lambda f, agent: ("bus", f"whether {f.tool} of {agent} took effect is unknown: {f.why}; next: {f.then}", ""),
    e.EffectRefused: lambda f, agent: ("bus", f"refused tool {f.tool} to {agent}: {_code(f.error)}", ""),
    e.EffectProbed: lambda f, agent: (agent, f"looked whether {f.tool} took effect: {f.answer.replace('_', ' ')}", ""),
    e.GrantLapsed: lambda f, agent: (agent, f"did not begin {f.tool} in time; it did not happen", ""),
    e.DeedSettled: lambda f, _: ("bus", f"{f.tool} is {'remembered under its key' if f.done else 'open to others again'}", ""),
    e.ModelCalled: _said_model,
    e.ModelCutOff: _said_cut_off,
    e.ContextFolded: _said_folded,
    e.SelfChecked: _said_check,
    e.ItemAsked: lambda f, _: ("bus", f"asked {f.to} for a decision: {f.kind} {f.item}", ""),
    e.TaskErased: lambda f, _: (f.by, f"erased what the task said: {f.why}", ""),
    e.ContentPruned: lambda f, _: (f.by, f"pruned what its model calls said, which is older than {f.days} days", ""),
    e.BudgetChanged: lambda f, _: (f.by, f"set limits: {_limits(f.limits)}: {f.why}", ""),
    e.BudgetNeared: lambda f, _: ("bus", f"{f.used} of {f.limit} {f.meter} are used", ""),
    e.LimitNeared: lambda f, _: ("bus", f"{f.used} of {f.limit} {f.meter} of {f.scope}{f' per {f.per}' if f.per else ''} are used", ""),
    e.EstimateExceeded: lambda f, _: ("bus", f"model {f.model} was reported to use more than was held for the call: {_over(f.meters)}", ""),
    e.LimitChanged: lambda f, _: (f.by, f"set limits of {f.scope}{f' per {f.per}' if f.per else ''}: {_limits(f.limits)}: {f.why}", ""),
    e.ItemDecided: lambda f, _: (f.by or "bus", f"{f.decision}: {f.item}", ""),
    e.UndoRegistered: lambda f, _: ("workflow", f"registered {f.tool} to undo {f.of or 'it'}", ""),
    e.UndoBegun: lambda f, _: ("bus", f"undoes by {f.tool}", ""),
}
