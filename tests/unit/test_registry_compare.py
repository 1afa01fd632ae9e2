"""Compatibility: a proved yes is never wrong, a doubt is a refusal, and the answer always comes."""

import sys
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.schemas.registry import compare
from interlock.schemas.registry.judge import judge

LEAVES: list[Any] = [
    True,
    {"type": "string"},
    {"type": "string", "maxLength": 2},
    {"type": "string", "pattern": "^a"},
    {"type": "string", "format": "email"},
    {"type": "integer"},
    {"type": "integer", "minimum": 1},
    {"type": "number", "multipleOf": 0.5},
    {"type": ["string", "null"]},
    {"type": "boolean"},
    {"enum": ["a", "bb", 1, None]},
    {"const": 1},
    {"const": True},
    {"type": "array", "maxItems": 1},
    {"uniqueItems": True},
]


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda a, b, extra: {"type": "object", "properties": {"a": a, "b": b}, **extra},
        inner,
        inner,
        st.sampled_from([{}, {"additionalProperties": False}, {"required": ["a"]}, {"unevaluatedProperties": False}, {"maxProperties": 1}]),
    )


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pair = st.lists(inner, min_size=2, max_size=2)
    return st.one_of(
        _objects(inner),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda items: {"prefixItems": items, "items": False}, pair),
        st.builds(lambda one: {"contains": one, "maxContains": 1}, inner),
        st.builds(lambda parts: {"anyOf": parts}, pair),
        st.builds(lambda parts: {"oneOf": parts}, pair),
        st.builds(lambda parts: {"allOf": parts}, pair),
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda parts: {"if": parts[0], "then": parts[1]}, pair),
    )


schemas = st.recursive(st.sampled_from(LEAVES), _nested, max_leaves=5)

values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, 1.0, 0.5, "", "a", "bb", "abc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """A new and an old schema that are near each other, so that containment often holds and often just fails."""
    old = draw(schemas)
    other = draw(schemas)
    change = draw(st.sampled_from(["other", "widen", "narrow", "exclude", "nest"]))
    new = {
        "other": other,
        "widen": {"anyOf": [other, old]},
        "narrow": {"allOf": [old, other]},
        "exclude": {"allOf": [old, {"not": other}]},
        "nest": {"properties": {"a": {"anyOf": [old, other]}}},
    }[change]
    return (new, {"properties": {"a": old}}) if change == "nest" else (new, old)


def _accepts(schema: Any, value: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=False).is_valid(value)


@settings(max_examples=120)
@given(pairs(), st.lists(values, min_size=20, max_size=40))
def test_what_is_called_compatible_accepts_everything_that_the_old_one_accepts(pair: tuple[Any, Any], sample: list[Any]) -> None:
    new, old = pair
    status, reason = judge(new, old)
    assert (reason == "") is (status == "compatible")
    if status == "compatible":
        assert [value for value in sample if _accepts(old, value) and not _accepts(new, value)] == []


@settings(max_examples=100)
@given(schemas, schemas)
def test_a_schema_with_one_more_choice_is_never_called_incompatible(old: Any, other: Any) -> None:
    assert judge({"anyOf": [other, old]}, old)[0] != "incompatible"


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("new", "old", "status"),
    [
        (_closed(a={"type": "string"}, b={"type": "string"}), _closed(a={"type": "string"}), "compatible"),
        ({**_closed(a={"type": "string"}), "title": "T", "x-note": {"$ref": "?"}}, _closed(a={"type": "string"}), "compatible"),
        ({"type": "string", "format": "email", "description": "d"}, {"type": "string"}, "compatible"),
        ({"type": "number"}, {"type": "integer"}, "compatible"),
        (_closed(a={"type": "string"}), _closed(a={"type": "string"}, b={"type": "string"}), "incompatible"),
        ({**_closed(a={}, b={}), "required": ["a", "b"]}, _closed(a={}, b={}), "incompatible"),
        ({"type": "integer"}, {"type": "number"}, "incompatible"),
        ({"const": True}, {"const": 1}, "incompatible"),
        ({"type": "string", "pattern": "^a+$"}, {"type": "string", "pattern": "^aa$"}, "unknown"),
        ({"properties": {"x": {"$ref": "#"}}}, {"properties": {"x": {"$ref": "#"}, "y": {}}, "minProperties": 1}, "unknown"),
    ],
)
def test_verdicts(new: Any, old: Any, status: str) -> None:
    verdict = compare.covers(new, old)
    assert verdict.status == status
    assert bool(verdict.reason) is (status != "compatible")


@pytest.mark.parametrize(
    ("new", "old", "example"),
    [
        (_closed(a={"type": "string"}), _closed(a={"type": "string"}, b={"type": "integer"}), '{"a": "", "b": 0}'),
        ({"type": "integer"}, {"type": "number"}, "0.5"),
        ({"type": "array", "items": {"const": "x"}}, {"type": "array", "items": {"enum": ["x", "y"]}}, '["y"]'),
        (
            {"$ref": "#/$defs/n", "$defs": {"n": _closed(a={"maximum": 3})}},
            {"$ref": "#/$defs/n", "$defs": {"n": _closed(a={"maximum": 4})}},
            '{"a": 4}',
        ),
    ],
)
def test_a_value_that_is_no_longer_accepted_is_shown(new: Any, old: Any, example: str) -> None:
    verdict = compare.covers(new, old)
    assert verdict == ("incompatible", f"it refuses {example}, which was accepted")


def test_what_is_lost_is_shown_as_a_schema_where_no_value_is_found() -> None:
    verdict = compare.covers({"type": "string", "maxLength": 33}, {"type": "string", "minLength": 17, "maxLength": 34})
    assert verdict.status == "incompatible"
    assert '"minLength": 34' in verdict.reason


def test_a_comparison_that_would_not_end_is_unknown() -> None:
    def deep(shortest: int) -> Any:
        schema: Any = {"type": "string", "minLength": shortest}
        for level in range(18):
            schema = {
                "if": {"required": [f"k{level}"], "properties": {f"k{level}": {"const": level}}},
                "then": schema,
                "else": {"properties": {f"z{level}": schema}},
            }
        return schema

    started = time.perf_counter()
    verdict = compare.covers(deep(0), deep(1), seconds=0.5)
    assert verdict.status == "unknown"
    assert "0.5 s" in verdict.reason
    assert time.perf_counter() - started < 10


def test_a_comparison_whose_process_breaks_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    verdict = compare.covers({"type": "string"}, {"type": "integer"})
    assert verdict.status == "unknown"
    assert "broke off" in verdict.reason
