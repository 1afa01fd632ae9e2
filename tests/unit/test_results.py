"""Running a tool: whatever happens inside, a bounded piece of JSON comes out."""

import asyncio
import dataclasses
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import ToolRefused
from interlock.schemas.message import Message
from interlock.testing import virtual_time
from interlock.tools.context import ToolContext
from interlock.tools.describe import is_cut
from interlock.tools.repeat import Never
from interlock.tools.results import ToolResult, run
from interlock.tools.tool import Tool, declare

CTX = ToolContext("tsk_1", "dsp_1", "1.1", "key_1", {"order_id": "7"}, secrets={"DB": "hush"})


class Draft(Message):
    id: str


@dataclasses.dataclass
class Point:
    x: int


def _tool(function: Callable[..., Any], **options: Any) -> Tool[..., Any]:
    function.__doc__ = "Do."
    return declare(function, **{"effect": "read", **options})


def _run(function: Callable[..., Any], args: dict[str, Any] | None = None, **options: Any) -> ToolResult:
    return asyncio.run(run(_tool(function, **options), args or {}, CTX))


def _error(result: ToolResult) -> tuple[str, str]:
    assert not result.ok
    wire = decode(result.value)
    return wire["code"], wire["message"]


def _returning(value: Any) -> Callable[..., Any]:
    def give() -> Any:
        return value

    return give


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        (Draft(id="7"), b'{"id":"7"}'),
        ([Point(1)], b'[{"x":1}]'),
        ({"b": 1, "a": datetime(2030, 1, 1, tzinfo=UTC)}, b'{"a":"2030-01-01T00:00:00Z","b":1}'),
        ((1, 2), b"[1,2]"),
    ],
)
def test_results_are_json(value: Any, encoded: bytes) -> None:
    result = _run(_returning(value))
    assert (result.ok, result.value, result.cut) == (True, encoded, False)
    assert result.latency_ms >= 0


@pytest.mark.parametrize("value", [object(), {1, threading.Lock}, float, "\ud800", 2**70, b"\xff"])
def test_a_result_that_is_no_json_is_said_to_have_happened(value: Any) -> None:
    code, message = _error(_run(_returning(value)))
    assert code == "tool_failed"
    assert "it ran to its end and returned" in message
    assert "Its effect stands" in message


def test_arguments_are_converted_and_the_context_is_given() -> None:
    async def act(when: datetime, here: ToolContext, much: int = 2) -> str:
        return f"{when.year} {much} {here.idempotency_key} {here.secrets['DB']}"

    assert _run(act, {"when": "2030-01-01T00:00:00Z"}).value == b'"2030 2 key_1 hush"'
    assert "hush" not in repr(CTX)


def test_arguments_that_do_not_fit_are_a_refusal() -> None:
    def act(much: int) -> int:
        return much

    assert _error(_run(act, {"much": "x"}))[0] == "tool_refused"


def test_plain_functions_run_beside_the_loop_and_see_its_context() -> None:
    word = ContextVar("word", default="none")

    def act() -> list[str]:
        return [word.get(), threading.current_thread().name]

    async def main() -> ToolResult:
        word.set("mine")
        return await run(_tool(act), {}, CTX)

    assert decode(asyncio.run(main()).value) == ["mine", "interlock-tool"]


def _raising(error: BaseException) -> Callable[..., Any]:
    def act() -> None:
        raise error

    return act


def _raising_async(error: BaseException) -> Callable[..., Any]:
    async def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("make", [_raising, _raising_async])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such order"), "ValueError: no such order"),
        (KeyError(), "KeyError: it gave no reason"),
        (TimeoutError("the shop is slow"), "TimeoutError: the shop is slow"),
        (SystemExit(3), "SystemExit: 3"),
        (StopIteration("done"), "StopIteration"),
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (ValueError("\ud800"), "ValueError: ?"),
    ],
)
def test_what_a_tool_raises_is_an_answer(make: Any, error: BaseException, said: str) -> None:
    code, message = _error(_run(make(error)))
    assert code == "tool_failed"
    assert message.startswith("Tool act failed: ")
    assert said in message
    assert "Traceback" not in message


def test_the_words_of_an_error_are_bounded() -> None:
    assert len(_run(_raising(ValueError("x" * 10**6))).value) < 4_000
    assert len(_run(_raising(ToolRefused(tool="act", problem="x" * 10**6, remedy="")), max_bytes=256).value) < 4_000


def test_an_error_of_ours_keeps_its_code_and_facts() -> None:
    refused = ToolRefused(tool="act", problem="the order is closed", remedy="Take another.", order="7")
    assert decode(_run(_raising(refused)).value) == refused.to_wire()
    odd = ToolRefused(tool="act", problem="p", remedy="r", thing=object())
    assert _error(_run(_raising(odd)))[0] == "tool_failed"


def test_a_failed_write_is_not_said_to_be_undone() -> None:
    _, message = _error(_run(_raising(OSError("broken pipe")), effect="write", system="git", repeat=Never()))
    assert message.endswith("Find out how far it came before calling it again.")


async def _sleeping() -> None:
    await asyncio.sleep(60)


async def _covering_up() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError("rolled back, I hope") from None


@pytest.mark.parametrize("function", [_sleeping, _covering_up])
def test_time_ends_a_tool(function: Any) -> None:
    result = virtual_time.run(run(_tool(function, timeout=2.5), {}, CTX))
    assert _error(result)[0] == "tool_timeout"
    assert "2.5 s" in _error(result)[1]
    assert result.latency_ms == pytest.approx(2_500)


def test_nobody_waits_for_a_plain_function_that_hangs() -> None:
    release = threading.Event()
    ended = threading.Event()

    def hang() -> None:
        release.wait(60)
        ended.set()

    result = _run(hang, timeout=0.05)
    assert _error(result)[0] == "tool_timeout"
    release.set()
    assert ended.wait(60)


def test_plain_functions_run_in_virtual_time_too() -> None:
    assert virtual_time.run(run(_tool(_returning(7)), {}, CTX)).value == b"7"


def test_cancellation_passes_through() -> None:
    async def main() -> bool:
        task = asyncio.create_task(run(_tool(_sleeping), {}, CTX))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert virtual_time.run(main())


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=100, max_size=400), st.integers(256, 400))
def test_a_long_result_is_cut_to_json_that_says_so(text: str, most: int) -> None:
    result = _run(_returning([text]), max_bytes=most)
    whole = encode([text])
    assert result.cut is (len(whole) > most)
    assert len(result.value) <= most
    if not result.cut:
        assert result.value == whole
        return
    value = decode(result.value)
    assert is_cut(value)
    assert value["bytes"] == len(whole)
    assert whole.decode().startswith(value["head"])


def test_the_head_of_a_cut_result_is_as_long_as_may_be() -> None:
    value = decode(_run(_returning("x" * 10**6), max_bytes=65_536).value)
    assert len(value["head"]) > 65_400
    assert sys.getsizeof(value["head"]) < 70_000
