"""Declaring tools: what is said once, in hints and docstring, and what is refused at the line that declares it."""

import enum
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from interlock.schemas.errors import BadDeclaration, DirectCall, ToolFailed, ToolRefused
from interlock.schemas.message import Message
from interlock.schemas.specs import RepeatSpec, ToolSpec
from interlock.tools import docstring
from interlock.tools.context import ToolContext
from interlock.tools.describe import json_args, typed_result, validate_args
from interlock.tools.repeat import Keyed, Natural, Never
from interlock.tools.tool import Tool, declare, tool


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class LineItem(BaseModel):
    title: str
    price: int = 1


class Draft(Message):
    id: str


@tool(effect="write", system="ledger-db", repeat=Keyed("order_id", scope="bus"), timeout=5, secrets=["DB"])
async def create_invoice(
    order_id: str, items: list[LineItem], ctx: ToolContext, color: Color = Color.RED, note: str | None = None
) -> Draft:
    """Create a draft invoice. Calling twice with the same
    order_id returns the existing draft.

    More for people.

    Args:
        order_id: The order, as in the shop.
        items (list): What was bought,
            one line each.
    """
    return Draft(id=f"{order_id}/{len(items)}/{color.value}/{note}/{ctx.task}")


def test_a_declaration_says_it_all() -> None:
    spec = create_invoice.spec
    assert spec.name == "create_invoice"
    assert spec.description == "Create a draft invoice. Calling twice with the same order_id returns the existing draft."
    assert spec.repeat == RepeatSpec("keyed", "order_id", "bus")
    assert (spec.effect, spec.system, spec.timeout, spec.secrets) == ("write", "ledger-db", 5.0, ("DB",))
    properties = spec.parameters["properties"]
    assert list(properties) == ["order_id", "items", "color", "note"]
    assert properties["order_id"] == {"type": "string", "description": "The order, as in the shop."}
    assert properties["items"]["description"] == "What was bought, one line each."
    assert properties["color"]["default"] == "red"
    assert spec.parameters["required"] == ["order_id", "items"]
    assert spec.parameters["additionalProperties"] is False
    assert spec.parameters["$defs"]["LineItem"]["properties"]["title"] == {"type": "string"}
    assert spec.returns["properties"] == {"id": {"type": "string"}}


def test_a_direct_call_raises_and_the_function_is_there_for_tests() -> None:
    with pytest.raises(DirectCall, match=r"ctx\.call"):
        create_invoice(order_id="7")

    @tool(effect="read")
    def double(number: int) -> int:
        """Double it."""
        return 2 * number

    assert double.function(4) == 8
    assert isinstance(double, Tool)
    assert repr(double) == "Tool(double, read)"


def test_names_that_models_have_themselves_are_fine_as_parameters() -> None:
    @tool(effect="read")
    def search(json: str, model_config: int, _private: bool, title: str = "t", schema: dict[str, Any] | None = None) -> None:
        """Search."""

    assert list(search.spec.parameters["properties"]) == ["json", "model_config", "_private", "title", "schema"]
    args = json_args(search, {"json": "a", "model_config": 1, "_private": True})
    assert args == {"json": "a", "model_config": 1, "_private": True, "title": "t", "schema": None}
    assert validate_args(search, args) == args


def test_a_tool_without_arguments_is_closed_too() -> None:
    @tool(effect="read")
    def now(ctx: ToolContext) -> str:
        """The time."""
        return ctx.task

    assert now.spec.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    with pytest.raises(ToolRefused, match="It takes: no arguments"):
        json_args(now, {"zone": "UTC"})


def test_arguments_travel_as_json_with_defaults_and_come_back_typed() -> None:
    args = json_args(create_invoice, {"order_id": "7", "items": [LineItem(title="a")]})
    assert args == {"order_id": "7", "items": [{"title": "a", "price": 1}], "color": "red", "note": None}
    assert validate_args(create_invoice, args) == {"order_id": "7", "items": [LineItem(title="a")], "color": Color.RED, "note": None}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"order_id": "7"}, "at /items"),
        ({"order_id": "7", "items": [{"title": 3}]}, "at /items/0/title"),
        ({"order_id": "7", "items": [], "colour": "red"}, "at /colour"),
        ({"order_id": "7", "items": [], "ctx": None}, "at /ctx"),
    ],
)
def test_python_arguments_that_do_not_fit_are_refused(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolRefused) as refusal:
        json_args(create_invoice, args)
    assert said in str(refusal.value)


def test_arguments_without_an_exact_json_form_are_refused() -> None:
    @tool(effect="read")
    def scale(factor: float) -> float:
        """Scale."""
        return factor

    with pytest.raises(ToolRefused, match="no exact JSON form"):
        json_args(scale, {"factor": float("nan")})

    @tool(effect="read")
    def count(number: int) -> int:
        """Count."""
        return number

    assert json_args(count, {"number": 2**60 + 1}) == {"number": 2**60 + 1}
    with pytest.raises(ToolRefused, match="no exact JSON form"):
        json_args(count, {"number": 2**70})


def test_a_recorded_result_comes_back_as_its_type() -> None:
    assert typed_result(create_invoice, b'{"id":"7"}') == Draft(id="7")
    with pytest.raises(ToolFailed, match="something else than its hint says: at /id"):
        typed_result(create_invoice, b'{"id":7}')
    with pytest.raises(ToolFailed, match="has been cut"):
        typed_result(create_invoice, b'{"bytes":100000,"cut":true,"head":"{"}')


def _no_docstring(a: str) -> str:
    return a


def _only_args(a: str) -> str:
    """Args:
    a: what
    """
    return a


def _no_hint(a, b: int) -> str:  # type: ignore[no-untyped-def]
    """Do."""
    return str(a)


def _no_context_hint(ctx) -> str:  # type: ignore[no-untyped-def]
    """Do."""
    return str(ctx)


def _no_return(a: str):  # type: ignore[no-untyped-def]
    """Do."""


def _variadic(*names: str) -> None:
    """Do."""


def _keywords(**names: str) -> None:
    """Do."""


def _positional(name: str, /) -> None:
    """Do."""


def _set(names: set[str]) -> None:
    """Do."""


def _bad_default(name: str = 7) -> None:  # type: ignore[assignment]
    """Do."""


def _object_argument(name: object, other: Iterator[int], third: Callable[[], int]) -> None:
    """Do."""


def _unknown_name() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
    """Do."""


class Opaque:
    pass


def _opaque(name: Opaque) -> None:
    """Do."""


def _opaque_result() -> Opaque:
    """Do."""
    return Opaque()


def _generator() -> Iterator[int]:
    """Do."""
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    """Do."""
    yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_no_docstring, "tool _no_docstring: it has no docstring"),
        (_only_args, "it has no docstring"),
        (_no_hint, "parameter a has no hint. Write a: str"),
        (_no_context_hint, "parameter ctx has no hint. Write ctx: ToolContext"),
        (_no_return, "no return hint"),
        (_variadic, "parameter names cannot be given by name"),
        (_keywords, "parameter names cannot be given by name"),
        (_positional, "parameter name cannot be given by name"),
        (_set, "is a set"),
        (_bad_default, "default of parameter name does not fit"),
        (_object_argument, "Use types that JSON can carry"),
        (_unknown_name, "hints cannot be read"),
        (_opaque, "Use types that JSON can carry"),
        (_opaque_result, "Return what JSON can carry"),
        (_generator, "no plain or async function"),
        (_async_generator, "no plain or async function"),
        (Opaque, "no plain or async function"),
    ],
)
def test_a_function_that_leaves_something_open_is_refused(function: Any, said: str) -> None:
    with pytest.raises(BadDeclaration) as refusal:
        declare(function, effect="read")
    assert said in str(refusal.value)


def _act(key: str, other: str = "x") -> None:
    """Act."""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"effect": "write", "repeat": Never()}, "needs system="),
        ({"effect": "write", "system": "git"}, "needs repeat="),
        ({"effect": "irreversible", "system": "git"}, "needs repeat="),
        ({"effect": "read", "repeat": Never()}, "a read repeats freely"),
        ({"effect": "reed"}, "effect='reed'"),
        ({"effect": "write", "system": "git", "repeat": Keyed("kee")}, "names 'kee', which is no parameter. Did you mean 'key'?"),
        ({"effect": "write", "system": "git", "repeat": Natural("other")}, "has a default"),
        ({"effect": "read", "timeout": 0}, "timeout=0"),
        ({"effect": "read", "timeout": float("nan")}, "timeout=nan"),
        ({"effect": "read", "max_bytes": 10}, "max_bytes=10"),
        ({"effect": "read", "name": "a b"}, "'a b' is no tool name"),
    ],
)
def test_options_that_leave_something_open_are_refused(options: Any, said: str) -> None:
    with pytest.raises(BadDeclaration) as refusal:
        declare(_act, **options)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("repeat", "spec"),
    [
        (Keyed("key"), RepeatSpec("keyed", "key", "task")),
        (Natural("key"), RepeatSpec("natural", "key")),
        (Never(), RepeatSpec("never")),
    ],
)
def test_a_write_says_how_it_repeats(repeat: Any, spec: RepeatSpec) -> None:
    declared = declare(_act, effect="write", system="git", repeat=repeat, name="act-now", trusted="our own log")
    assert declared.spec == ToolSpec(
        "act-now",
        "Act.",
        declared.spec.parameters,
        {"type": "null"},
        "write",
        system="git",
        repeat=spec,
        trusted_because="our own log",
    )


def test_hints_may_carry_bounds_and_descriptions() -> None:
    @tool(effect="read")
    def pick(mode: Literal["fast", "safe"], number: Annotated[int, Field(ge=1, description="How many.")] = 3) -> list[int]:
        """Pick."""
        return [number]

    properties = pick.spec.parameters["properties"]
    assert properties["mode"] == {"type": "string", "enum": ["fast", "safe"]}
    assert properties["number"] == {"type": "integer", "minimum": 1, "default": 3, "description": "How many."}
    with pytest.raises(ToolRefused, match="at /number"):
        json_args(pick, {"mode": "fast", "number": 0})


def test_the_docstring_styles_say_the_same() -> None:
    def google(a: int, b: int) -> None:
        """Do.

        Args:
            a (int): The first,
                really.
            b: The second: last.

        Returns:
            nothing: at all
        """

    def numpy(a: int, b: int) -> None:
        """Do.

        Parameters
        ----------
        a : int
            The first,
            really.
        b
            The second: last.

        Returns
        -------
        c
            Nothing.
        """

    def rst(a: int, b: int) -> None:
        """Do.

        :param int a: The first,
            really.
        :param b: The second: last.
        :returns: nothing
        """

    for function in (google, numpy, rst):
        assert docstring.summary(function) == "Do."
        assert docstring.parameters(function) == {"a": "The first, really.", "b": "The second: last."}
