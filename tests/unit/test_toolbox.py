"""A toolbox turns what a model calls into a tool with arguments that fit, or into a refusal that helps it."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration, ToolRefused, from_wire
from interlock.tools.describe import validate_args
from interlock.tools.tool import tool
from interlock.tools.toolbox import Toolbox


@tool(effect="read")
def get_order(order_id: str, state: Literal["open", "paid", "shipped"] = "open", limit: int = 10) -> dict[str, str]:
    """Find an order."""
    return {"order_id": order_id, "state": state}


@tool(effect="read")
def list_orders() -> list[str]:
    """All orders."""
    return []


BOX = Toolbox([get_order, list_orders])


def _refusal(name: str, args: str) -> ToolRefused:
    with pytest.raises(ToolRefused) as refusal:
        BOX.resolve(name, args)
    encode(refusal.value.to_wire())
    assert str(from_wire(refusal.value.to_wire())) == str(refusal.value)
    return refusal.value


def test_the_schemas_are_what_endpoints_take() -> None:
    first = BOX.schemas()[0]
    assert first == {
        "type": "function",
        "function": {"name": "get_order", "description": "Find an order.", "parameters": get_order.spec.parameters},
    }
    assert [schema["function"]["name"] for schema in BOX.schemas()] == ["get_order", "list_orders"]


def test_a_good_call_comes_back_complete() -> None:
    resolved, args = BOX.resolve("get_order", '{"order_id": "7", "limit": "3"}')
    assert resolved is get_order
    assert args == {"order_id": "7", "state": "open", "limit": 3}


@pytest.mark.parametrize("text", ["", "  ", "{}", b"{}"])
def test_no_arguments_may_be_written_as_nothing(text: str | bytes) -> None:
    assert BOX.resolve("list_orders", text) == (list_orders, {})


def test_an_unknown_tool_is_answered_with_the_nearest() -> None:
    refusal = _refusal("get_orders", "{}")
    assert refusal.facts["nearest"] == "get_order"
    assert refusal.facts["known"] == ["get_order", "list_orders"]
    assert "Nearest: get_order. There are: get_order, list_orders." in str(refusal)
    assert len(str(_refusal("x" * 100_000, "{}"))) < 1_000


def test_without_tools_there_is_no_nearest() -> None:
    with pytest.raises(ToolRefused, match="There are no tools here"):
        Toolbox([]).resolve("get_order", "{}")


@pytest.mark.parametrize("text", ["{", "nothing", '{"order_id": "\\ud800"}', "[" * 2_000])
def test_arguments_that_are_not_json_are_refused(text: str) -> None:
    assert "its arguments are not JSON" in str(_refusal("get_order", text))


def test_arguments_that_are_no_object_are_refused() -> None:
    assert "no JSON object but list" in str(_refusal("get_order", "[1]"))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('{"order_id": "7", "stat": "open"}', {"pointer": "/", "nearest": "state"}),
        ('{"order_id": "7", "state": "PAYED"}', {"pointer": "/state", "nearest": "paid"}),
        ('{"order_id": 7}', {"pointer": "/order_id", "problem": '7 is not of type "string"'}),
        ("{}", {"pointer": "/", "problem": '"order_id" is a required property'}),
        ('{"order_id": "7", "limit": 1.5}', {"pointer": "/limit"}),
    ],
)
def test_bad_arguments_say_where_and_what_comes_nearest(text: str, fact: dict[str, Any]) -> None:
    refusal = _refusal("get_order", text)
    (found,) = refusal.facts["problems"]
    assert fact.items() <= found.items()
    assert refusal.facts["arguments"] == ["order_id", "state", "limit"]
    assert str(fact.get("nearest", "")) in str(refusal)


def test_every_problem_is_named_at_once() -> None:
    problems = _refusal("get_order", '{"state": 1, "limit": "x"}').facts["problems"]
    assert {problem["pointer"] for problem in problems} == {"/", "/state", "/limit"}


def test_a_refusal_is_bounded_however_large_the_arguments() -> None:
    assert len(str(_refusal("get_order", encode({"order_id": "7", "state": "x" * 1_000_000}).decode()))) < 2_000
    strange = encode({f"field{number}": number for number in range(10_000)}).decode()
    assert len(encode(_refusal("get_order", strange).to_wire())) < 4_000


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(BadDeclaration, match="two of this name"):
        Toolbox([get_order, get_order])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["order_id", "state", "limit", "x"]), json_values | st.sampled_from(["open", "paid", "3"])))
def test_whatever_is_called_is_resolved_or_refused_and_what_is_resolved_fits(args: dict[str, Any]) -> None:
    problems: list[Any] = []
    try:
        resolved = BOX.resolve("get_order", encode(args))[1]
    except ToolRefused as refusal:
        resolved, problems = {}, refusal.facts["problems"]
    assert bool(problems) is (resolved == {})
    if resolved:
        assert Draft202012Validator(get_order.spec.parameters).is_valid(resolved)
        assert validate_args(get_order, resolved) == resolved
        assert BOX.resolve("get_order", encode(resolved))[1] == resolved
