"""Rules of a playbook: when one fits a request, and how one is read from its JSON.

A rule looks at the request alone. A rule that is written wrongly is refused when the playbook is loaded, by number and field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from interlock.actors.aim import RESTATED
from interlock.actors.drift import CHECK
from interlock.actors.window import FOLDED
from interlock.schemas.canonical import decode
from interlock.schemas.errors import BadDeclaration
from interlock.testing.templates import at

_MATCHERS = {"agent", "model", "user", "user_json", "tool_result", "tool_results", "turns", "self_check"}
_RULE = _MATCHERS | {"name", "answer", "fault", "times", "delay"}
_ANSWER = {"text", "json", "tool_calls", "usage", "verbatim"}
_FAULT = {"kind", "status", "retry_after", "message"}

FaultKind = Literal["status", "hang", "drop", "garbage"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. `status`, `retry_after` (seconds) and `message` are those of kind `status`."""

    kind: FaultKind
    status: int = 500
    retry_after: float | None = None
    message: str = "scripted failure"


@dataclass(frozen=True, slots=True)
class Rule:
    """When it fits (`None` fits all) and what it does; exactly one of `answer` and `fault` is set."""

    number: int
    name: str
    agent: re.Pattern[str] | None
    model: re.Pattern[str] | None
    user: re.Pattern[str] | None
    user_json: dict[str, Any]
    tool_result: re.Pattern[str] | None
    tool_results: int | None
    turns: int | None
    self_check: bool
    answer: dict[str, Any] | None
    fault: Fault | None
    times: int | None
    delay: float

    def fits(self, seen: "Conversation") -> bool:
        return (
            self.self_check == seen.self_check
            and _found(self.agent, seen.system)
            and _found(self.model, seen.model)
            and _found(self.user, seen.user)
            and _found(self.tool_result, seen.tool_result)
            and self.tool_results in (None, seen.tool_results)
            and self.turns in (None, seen.turns)
            and all(_holds(seen.user_json, pointer, value) for pointer, value in self.user_json.items())
        )


class Conversation(NamedTuple):
    """What rules look at: the model that is asked, texts of the system prompt, of the last user message and of the last tool result, the
    JSON in them (of the last user message that has any), how many tool results and assistant turns there are, and whether the model is
    asked about itself: the question is not taken for a user message."""

    model: str
    system: str
    user: str
    user_json: Any
    tool_result: str
    tool_json: Any
    tool_results: int
    turns: int
    self_check: bool


def look(request: Mapping[str, Any]) -> Conversation:
    """What a request shows to the rules: of a conversation whose beginning was folded, how far it is all the same."""
    by_role: dict[str, list[str]] = {}
    turns, results, self_check = 0, 0, False
    for message in request.get("messages", []):
        role, text = message.get("role", ""), _text(message.get("content"))
        if role == "assistant" and (folded := FOLDED.match(text)):
            turns, results = int(folded[1]), int(folded[2])
        elif role == "user" and text.startswith(CHECK):
            self_check = True
        elif role != "user" or not text.startswith(RESTATED):
            by_role.setdefault(role, []).append(text)
    users, tools = by_role.get("user", []), by_role.get("tool", [])
    return Conversation(
        model=str(request.get("model", "")),
        system="\n".join(by_role.get("system", []) + by_role.get("developer", [])),
        user=users[-1] if users else "",
        user_json=next((value for text in reversed(users) if (value := _json_in(text)) is not None), None),
        tool_result=tools[-1] if tools else "",
        tool_json=_json_in(tools[-1]) if tools else None,
        tool_results=results + len(tools),
        turns=turns + len(by_role.get("assistant", [])),
        self_check=self_check,
    )


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _json_in(text: str) -> Any:
    """The JSON that a message is, or the object that stands in its prose; `None` for neither."""
    start, end = text.find("{"), text.rfind("}") + 1
    for candidate in (text, text[start:end] if start >= 0 else ""):
        try:
            return decode(candidate)
        except ValueError:
            continue
    return None


def _found(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.search(text) is not None


def _holds(document: Any, pointer: str, value: Any) -> bool:
    try:
        return bool(at(document, pointer) == value)
    except LookupError:
        return False


def bad(what: str, problem: str, remedy: str) -> BadDeclaration:
    return BadDeclaration(what=what, problem=problem, remedy=remedy)


class RuleReader:
    """Reads one rule; each complaint names the rule and the field."""

    def __init__(self, where: str, wire: Any) -> None:
        self._where = where
        if not isinstance(wire, Mapping):
            raise bad(where, "it is not an object", 'Write {"agent": "...", "answer": {"text": "..."}}.')
        self._wire = wire

    def rule(self, number: int) -> Rule:
        self._known("", self._wire, _RULE)
        answer, fault = self._get("answer", Mapping, None), self._get("fault", Mapping, None)
        if (answer is None) == (fault is None):
            raise bad(self._where, "it has not exactly one of `answer` and `fault`", "Say what it does: answer, or fail.")
        if "times" in self._wire and fault is None:
            raise self._wrong(
                "times", "answers do not count", "Tell requests apart by `turns` or `tool_results`; only a fault has `times`."
            )
        return Rule(
            number=number,
            name=self._get("name", str, f"rule {number}"),
            agent=self._pattern("agent"),
            model=self._pattern("model"),
            user=self._pattern("user"),
            user_json=self._get("user_json", dict, {}),
            tool_result=self._pattern("tool_result"),
            tool_results=self._count("tool_results"),
            turns=self._count("turns"),
            self_check=self._get("self_check", bool, False),
            answer=None if answer is None else self._answer(answer),
            fault=None if fault is None else self._fault(fault),
            times=self._count("times"),
            delay=float(self._get("delay", int | float, 0.0)),
        )

    def _answer(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        self._known("answer", answer, _ANSWER)
        if ("text" in answer and "json" in answer) or not {"text", "json", "tool_calls"} & set(answer):
            raise self._wrong("answer", "it says nothing, or two things", "Give `text` or `json`, or `tool_calls`.")
        calls = answer.get("tool_calls", [])
        if not isinstance(calls, list) or not all(
            isinstance(call, Mapping) and isinstance(call.get("name"), str) and set(call) <= {"name", "arguments"} for call in calls
        ):
            raise self._wrong("answer.tool_calls", "it is not a list of calls", 'Write [{"name": "get_order", "arguments": {...}}].')
        return dict(answer)

    def _fault(self, fault: Mapping[str, Any]) -> Fault:
        self._known("fault", fault, _FAULT)
        if fault.get("kind") not in ("status", "hang", "drop", "garbage"):
            raise self._wrong("fault.kind", f"there is no {fault.get('kind')!r}", "Use status, hang, drop or garbage.")
        status = fault.get("status", 500)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise self._wrong("fault.status", f"{status!r} is no HTTP error", "Use a number from 400 to 599.")
        wait = fault.get("retry_after")
        if wait is not None and (not isinstance(wait, int | float) or wait < 0):
            raise self._wrong("fault.retry_after", f"{wait!r} is no number of seconds", "Give a number from 0.")
        return Fault(fault["kind"], status, wait, str(fault.get("message", "scripted failure")))

    def _pattern(self, field: str) -> re.Pattern[str] | None:
        text = self._get(field, str, None)
        try:
            return None if text is None else re.compile(text, re.DOTALL)
        except re.error as error:
            raise self._wrong(field, f"it is no regular expression ({error})", "Escape what is meant literally with \\\\.") from None

    def _count(self, field: str) -> int | None:
        count = self._get(field, int, None)
        if count is not None and (isinstance(count, bool) or count < 0):
            raise self._wrong(field, f"{count!r} is no count", "Give a whole number from 0.")
        return None if count is None else int(count)

    def _get(self, field: str, kind: Any, default: Any) -> Any:
        value = self._wire.get(field, default)
        if value is not default and not isinstance(value, kind):
            wanted = getattr(kind, "__name__", str(kind))
            raise self._wrong(field, f"it is a {type(value).__name__}", f"Give a value of type {wanted}.")
        return value

    def _known(self, field: str, wire: Mapping[str, Any], names: set[str]) -> None:
        for name in wire:
            if name not in names:
                raise self._wrong(f"{field}.{name}".lstrip("."), "there is no such field", f"Fields are {', '.join(sorted(names))}.")

    def _wrong(self, field: str, problem: str, remedy: str) -> BadDeclaration:
        return bad(f"{self._where}, field {field!r}", problem, remedy)
