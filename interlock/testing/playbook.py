"""A playbook: a model whose answers are written down.

A list of rules; the first that fits a request answers it. What a rule looks at lies in the request itself (system prompt, messages,
how far the conversation is), so the same conversation gets the same answers, first time, replayed or in parallel with a thousand
others. Only faults count: they fire `times` times and then let the request through to the rules below. The format for users is
in docs/testing-agents.md.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from interlock.schemas.canonical import decode, encode
from interlock.testing.rules import Conversation, Fault, FaultKind, Rule, RuleReader, bad, look
from interlock.testing.templates import NoValue, filled, unfolded

_BYTES_PER_TOKEN = 4


_ON_GOAL = RuleReader(
    "what a self-check that no rule fits is answered",
    {"self_check": True, "answer": {"json": {"progress": "as written", "left": "as written", "on_goal": True}, "verbatim": True}},
).rule(0)


class Reply(NamedTuple):
    """What the server does with one request: wait `delay` seconds, then answer, hang or drop the connection."""

    status: int
    body: bytes
    rule: str
    delay: float = 0.0
    retry_after: float | None = None
    fault: FaultKind | None = None


@dataclass(frozen=True, slots=True)
class Playbook:
    """Rules in order. `model` is reported by answers; empty: whatever was asked for."""

    rules: tuple[Rule, ...]
    model: str = ""

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | Playbook") -> "Playbook":
        """A playbook from a file or an object; `BadDeclaration` names the rule and the field that is wrong."""
        if isinstance(source, Playbook):
            return source
        where, wire = "playbook", source
        if isinstance(source, str | Path):
            where = f"playbook {source}"
            try:
                wire = decode(Path(source).read_bytes())
            except (OSError, ValueError) as error:
                raise bad(where, f"it cannot be read as JSON ({error})", "Give the path of a JSON file.") from None
        if not isinstance(wire, Mapping) or not isinstance(wire.get("rules"), list) or not set(wire) <= {"rules", "model"}:
            raise bad(where, "it is not an object with a list `rules` (and optionally `model`)", 'Write {"rules": [...]}.')
        rules = tuple(RuleReader(f"{where}, rule {number}", rule).rule(number) for number, rule in enumerate(wire["rules"], 1))
        return cls(rules, str(wire.get("model", "")))

    def reply(self, request: Mapping[str, Any], fired: Counter[int]) -> Reply:
        """The reply to a chat-completions request. `fired` counts faults by rule number; it is the caller's, and is counted up."""
        seen = look(request)
        for rule in self.rules:
            if not rule.fits(seen):
                continue
            if rule.fault is None:
                return self._answer(rule, request, seen)
            if rule.times is None or fired[rule.number] < rule.times:
                fired[rule.number] += 1
                return _failure(rule, rule.fault)
        return self._answer(_ON_GOAL, request, seen) if seen.self_check else _refusal(_unanswered(seen), "")

    def _answer(self, rule: Rule, request: Mapping[str, Any], seen: Conversation) -> Reply:
        assert rule.answer is not None, "a rule without a fault has an answer"
        try:
            answer = unfolded(rule.answer if rule.answer.get("verbatim") else filled(rule.answer, seen.user_json, seen.tool_json))
        except NoValue as missing:
            return _refusal(f"{rule.name}: {missing}", rule.name)
        completion = _completion(request, answer)
        completion["model"] = self.model or request.get("model", "")
        return Reply(200, encode(completion), rule.name, rule.delay)


def _completion(request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion that is a function of the conversation: ids derived, time zero, usage from the bytes, the cap honoured."""
    name = hashlib.sha256(encode(request.get("messages", []))).hexdigest()[:20]
    text = encode(answer["json"]).decode() if "json" in answer else answer.get("text")
    calls = [
        {
            "id": f"call_{name}_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": _arguments(call.get("arguments", {}))},
        }
        for index, call in enumerate(answer.get("tool_calls", []))
    ]
    prompt = prompt_tokens(request)
    written = _tokens((text or "").encode() + (encode(calls) if calls else b""))
    finish = "tool_calls" if calls else "stop"
    cap = request.get("max_completion_tokens") or request.get("max_tokens") or written
    if written > cap:
        text, calls, written, finish = (text or "").encode()[: cap * _BYTES_PER_TOKEN].decode(errors="ignore"), [], cap, "length"
    message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": 0,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        **({"usage": usage} if answer.get("usage", True) else {}),
    }


def prompt_tokens(request: Mapping[str, Any]) -> int:
    """What a request is reported as."""
    return _tokens(encode([request.get("messages", []), request.get("tools", [])]))


def _arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else encode(arguments).decode()


def _tokens(data: bytes) -> int:
    return max(1, len(data) // _BYTES_PER_TOKEN)


def _failure(rule: Rule, fault: Fault) -> Reply:
    if fault.kind == "garbage":
        return Reply(200, b"<html>this is no chat completion</html>", rule.name, rule.delay)
    error = {"error": {"message": fault.message, "type": "scripted", "param": None, "code": None}}
    return Reply(fault.status, encode(error), rule.name, rule.delay, fault.retry_after, None if fault.kind == "status" else fault.kind)


def _refusal(problem: str, rule: str) -> Reply:
    error = {"error": {"message": problem, "type": "invalid_request_error", "param": None, "code": "no_rule"}}
    return Reply(400, encode(error), rule)


def _unanswered(seen: Conversation) -> str:
    agent, user, result = (" ".join(text.split())[:160] for text in (seen.system, seen.user, seen.tool_result))
    return (
        f"No rule of the playbook answers the agent whose system prompt begins {agent!r}: assistant turns {seen.turns}, tool results "
        f"{seen.tool_results}, last user message {user!r}, last tool result {result!r}. Add a rule that fits this."
    )
