"""The model loop: whatever form a model's answer has, the model hears what is wrong with it and may go on."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import field_validator

from interlock.actors.agent_context import AgentContext
from interlock.actors.definitions import AgentDefinition
from interlock.actors.loop import ModelLoop
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BadReply
from interlock.schemas.frames import Answered
from interlock.schemas.message import Message
from interlock.schemas.specs import AgentSpec
from interlock.testing import virtual_time
from interlock.tools.tool import declare


class Order(Message, contract="test.order", version="1.0.0"):
    pass


class Done(Message, contract="test.done", version="1.0.0"):
    count: int


def look(name: str) -> str:
    """Look it up."""
    return name


class Even(Message, contract="test.even", version="1.0.0"):
    count: int

    @field_validator("count")
    @classmethod
    def is_even(cls, count: int) -> int:
        if count % 2:
            raise ValueError(f"{count} is odd")
        return count


class Talk:
    """A context whose model says what it is told to, then the answer."""

    def __init__(self, *said: dict[str, Any], awaited: tuple[type[Message], ...] = (Done,)) -> None:
        self.said = [*said, {"content": '{"count": 1}'}]
        self.awaited = awaited
        self.requests: list[dict[str, Any]] = []
        self.goal = self.until = ""

    async def complete(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(decode(encode(request)))
        return {"choices": [{"message": self.said.pop(0)}]}

    async def call_json(self, tool: Any, args: dict[str, Any]) -> Answered:
        return Answered("", "", True, encode(args))


def told(*said: dict[str, Any], awaited: tuple[type[Message], ...] = (Done,)) -> tuple[list[dict[str, Any]], Message]:
    """What the model saw last, after system and user; and the reply."""
    talk: Any = Talk(*said, awaited=awaited)
    tools = (declare(look, effect="read"),)
    loop = ModelLoop(AgentDefinition("a", "1.0.0", AgentSpec("a", "1.0.0", (), ()), None, "", (Order,), awaited, tools), "m")
    run: Callable[[Message, AgentContext], Any] = loop
    reply = virtual_time.run(run(Order(), talk))
    return talk.requests[-1]["messages"][2:], reply


def call(**parts: Any) -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", **parts}]}


GOOD = {"name": "look", "arguments": '{"name": "x"}'}


def test_a_call_in_due_form_goes_back_as_it_came() -> None:
    said, result = told(call(function=GOOD))[0]
    assert said["tool_calls"] == [{"id": "c1", "type": "function", "function": GOOD}]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": '{"name":"x"}'}


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        (call(function={"name": "look", "arguments": {"name": "x"}}), "its arguments are not text but an object"),
        (call(function={"name": "look", "arguments": None}), "its arguments are not text but null"),
        (call(function={"name": "look"}), "its arguments are not text but null"),
        (call(function={"name": "look", "arguments": 7}), "its arguments are not text but a number"),
        (call(function={"name": None, "arguments": "{}"}), "the call names no function"),
        (call(), "the call has no function"),
        (call(function="look"), "the call has no function"),
        ({"tool_calls": [{"function": GOOD}]}, "the call has no id"),
        ({"content": None, "tool_calls": ["look"]}, "the call has no function"),
        ({"content": None, "tool_calls": {"function": {"name": "look", "arguments": []}}}, "its arguments are not text but an array"),
    ],
)
def test_a_call_in_an_odd_form_is_refused_with_words(odd: dict[str, Any], problem: str) -> None:
    (said, result), reply = told(odd)
    (made,) = said["tool_calls"]
    assert made["type"] == "function"
    assert all(isinstance(made["function"][part], str) for part in ("name", "arguments"))
    error = decode(result["content"])["error"]
    assert (result["tool_call_id"], error["code"], error["facts"]["problem"]) == (made["id"], "tool_refused", problem)
    assert reply == Done(count=1)


@pytest.mark.parametrize(
    "content", [[{"type": "text", "text": '{"count"'}, {"type": "text", "text": ": 1}"}, {"type": "odd"}], {"count": 1}]
)
def test_an_answer_may_come_in_parts(content: Any) -> None:
    assert told({"content": content})[1] == Done(count=1)


@pytest.mark.parametrize("tool_calls", [[], None])
def test_no_calls_are_no_calls(tool_calls: Any) -> None:
    assert told({"content": '{"count": 1}', "tool_calls": tool_calls})[1] == Done(count=1)


ODD, EVEN = {"content": '{"count": 3}'}, {"content": '{"count": 4}'}


def test_what_a_validator_refuses_is_told_to_the_model_like_what_the_schema_refuses() -> None:
    (_, refusal), reply = told(ODD, EVEN, awaited=(Even,))
    assert refusal == {
        "role": "user",
        "content": "That answer is refused by test.even 1.0.0: at /count: Value error, 3 is odd.\nAnswer again with corrected JSON only.",
    }
    assert reply == Even(count=4)


def test_a_validator_that_refuses_twice_ends_it() -> None:
    with pytest.raises(BadReply, match="at /count: Value error, 3 is odd"):
        told(ODD, ODD, awaited=(Even,))


def test_an_answer_that_one_class_refuses_may_be_another_s() -> None:
    assert told(ODD, awaited=(Even, Done))[1] == Done(count=3)
