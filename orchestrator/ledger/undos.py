"""What a task's entries say of undoing: what was registered, what of it is to be done, how each undo stands. A pure fold.

An undo that names the tool whose effect it takes back is done only where a call of that tool was granted in this task: what never happened,
or was another task's deed under the same key, is not taken back. Where nobody knows whether it happened, it may have.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from interlock.schemas import entries as e
from interlock.schemas.record import Outcome
from interlock.schemas.undo import undoing_of

REGISTERED, OPEN, UNDONE, FAILED, UNKNOWN, STOPPED = "registered", "open", "undone", "failed", "unknown", "stopped"
NOT_NEEDED, NOT_WANTED = "not needed", "not wanted"


def due(facts: Sequence[e.Fact]) -> list[e.UndoRegistered]:
    """The undos of a task that are to be done, the last one first."""
    happened = _happened(facts)
    return [fact for fact in reversed(facts) if isinstance(fact, e.UndoRegistered) and (not fact.of or fact.of in happened)]


def unknown_writes(facts: Iterable[e.Fact]) -> list[e.EffectUnknown]:
    """Writes that were granted and of which nobody knows the end."""
    found: dict[str, e.EffectUnknown] = {}
    for fact in facts:
        if isinstance(fact, e.EffectUnknown):
            found[fact.effect] = fact
        elif isinstance(fact, e.EffectEnded):
            found.pop(fact.effect, None)
    return list(found.values())


def standing(task: str, facts: Sequence[e.Fact], undoing: Sequence[e.Fact]) -> list[dict[str, Any]]:
    """How each undo of a task stands, in the order of registration: `task`, `undoing` (the task that does it), `n`, `tool`, `of`, `state`.
    `facts` are the task's, `undoing` those of that other one."""
    wanted = {fact.n for fact in due(facts)}
    ended = next((fact for fact in facts if isinstance(fact, e.TaskEnded)), None)
    tried = _tried(undoing)

    def state(fact: e.UndoRegistered) -> str:
        if ended is None or ended.outcome == Outcome.SUCCESS:
            return REGISTERED if ended is None else NOT_NEEDED
        if not ended.undo:
            return NOT_WANTED
        if fact.n not in wanted:
            return NOT_NEEDED
        return tried.get(fact.n) or (STOPPED if any(isinstance(one, e.TaskEnded) for one in undoing) else OPEN)

    who = {"task": task, "undoing": undoing_of(task)}
    registered = (fact for fact in facts if isinstance(fact, e.UndoRegistered))
    return [{**who, "n": fact.n, "tool": fact.tool, "of": fact.of, "state": state(fact)} for fact in registered]


def _tried(undoing: Sequence[e.Fact]) -> dict[int, str]:
    """How the last try of each undo stands; none where it has not begun."""
    numbers: dict[str, int] = {}
    states: dict[int, str] = {}
    over = any(isinstance(fact, e.TaskEnded) for fact in undoing)
    for fact in undoing:
        if isinstance(fact, e.UndoBegun):
            numbers[fact.dispatch], states[fact.n] = fact.n, STOPPED if over else OPEN
            continue
        n = numbers.get(getattr(fact, "dispatch", ""))
        if n is None:
            continue
        if isinstance(fact, e.MessageReceived):
            states[n] = UNDONE
        elif isinstance(fact, e.DispatchFailed) and states[n] != UNKNOWN:
            states[n] = FAILED
        elif isinstance(fact, e.EffectUnknown):
            states[n] = UNKNOWN
        elif isinstance(fact, e.EffectEnded) and states[n] != UNDONE:
            states[n] = UNDONE if fact.ok else FAILED
    return states


def _happened(facts: Sequence[e.Fact]) -> set[str]:
    """The tools of which a call has happened, or may have."""
    tools: dict[str, str] = {}
    asked: dict[str, str] = {}
    for fact in facts:
        if isinstance(fact, e.EffectIntended | e.EffectUnknown):
            tools[fact.effect] = fact.tool
        elif isinstance(fact, e.EffectEnded):
            if fact.ok and not fact.same_as:  # whatever was said of it before
                tools[fact.effect] = fact.tool
        elif isinstance(fact, e.GrantLapsed) or (isinstance(fact, e.EffectProbed) and fact.answer == "not_happened"):
            tools.pop(fact.effect, None)
        elif isinstance(fact, e.ItemAsked) and fact.kind == "unknown":
            asked[fact.item] = fact.effect
        elif isinstance(fact, e.ItemDecided) and fact.decision == "denied" and fact.item in asked:
            tools.pop(asked[fact.item], None)
    return set(tools.values())
