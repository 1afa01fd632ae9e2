"""Verdicts: a yes is never wrong, a no has a message, the rest says why, and the answer always comes."""

import json
import random
from copy import deepcopy
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.schemas import check
from interlock.schemas.errors import BadSchema
from interlock.schemas.registry.proof import inclusion, second
from interlock.schemas.registry.proof.search import Search
from interlock.schemas.registry.replay import shrunk, validator

STRING, INTEGER = {"type": "string"}, {"type": "integer"}

NAMES = ("a", "b", "ab", "x1")
PATTERNS = ("^a", "b$", "^a+$", "^[ab]{1,2}$", "^(a|b)*$", "^.{2}$", "x")

leaves = st.sampled_from(
    [
        True, False, {}, STRING, INTEGER, {"type": "number"}, {"type": ["string", "null"]}, {"const": 1}, {"const": {"a": [1]}},
        {"enum": ["a", "bb", 1, None, True]}, {"minimum": 1}, {"maximum": 1}, {"exclusiveMinimum": 0}, {"multipleOf": 2},
        {"multipleOf": 0.5}, {"minLength": 2}, {"maxLength": 1}, {"pattern": "^a"}, {"pattern": "^[ab]{1,2}$"}, {"type": "object"},
        {"type": "array"}, {"required": ["a"]}, {"minProperties": 1}, {"maxProperties": 1}, {"minItems": 2}, {"maxItems": 1},
        {"uniqueItems": True}, {"$ref": "#/$defs/r"}, {"dependentRequired": {"a": ["b"]}},
    ]
)  # fmt: skip

ONE = (
    "additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems", "contains", "not", "propertyNames", "if", "then", "else",
)  # fmt: skip


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one_or_two = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=2)
    keyword = st.one_of(
        st.tuples(st.sampled_from(ONE), inner),
        st.tuples(st.sampled_from(["allOf", "anyOf", "oneOf", "prefixItems"]), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["properties", "dependentSchemas"]), one_or_two),
        st.tuples(st.just("patternProperties"), st.dictionaries(st.sampled_from(PATTERNS), inner, min_size=1, max_size=1)),
    )
    several = st.lists(keyword, min_size=1, max_size=3)
    return st.builds(lambda base, more: {**(base if isinstance(base, dict) else {}), **dict(more)}, inner, several)


schemas = st.recursive(leaves, _nested, max_leaves=7)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """An old and a new schema that are near each other, so that inclusion often holds and often just fails."""
    old, other, recursive = draw(schemas), draw(schemas), draw(schemas)
    how = draw(st.sampled_from(["other", "widen", "narrow", "exclude", "inside", "choose"]))
    new = {
        "other": other,
        "widen": {"anyOf": [other, old]},
        "narrow": {"allOf": [old, other]},
        "exclude": {"allOf": [old, {"not": other}]},
        "inside": {"properties": {"a": other}, "items": old},
        "choose": {"oneOf": [old, other]},
    }[how]
    old = {"properties": {"a": old}, "items": old} if how == "inside" else old
    return _rooted(old, recursive), _rooted(new, recursive)


def _rooted(schema: Any, recursive: Any) -> Any:
    return {"allOf": [schema], "$defs": {"r": {"properties": {"a": {"$ref": "#/$defs/r"}, "b": recursive}, "items": recursive}}}


def _value(rng: random.Random, depth: int = 3) -> Any:
    if depth == 0 or rng.random() < 0.4:
        return rng.choice([None, True, False, 0, 1, 2, 3, -1, 0.5, 1.5, "", "a", "b", "ab", "aa", "x1", "abc"])
    if rng.random() < 0.4:
        return [_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice([*NAMES, "c", "aa"]): _value(rng, depth - 1) for _ in range(rng.randint(0, 3))}


MESSAGES = [_value(random.Random(seed)) for seed in range(1000)]


alone = patch.object(second, "opinion", lambda *_: "unknown")
"""No second opinion: what is proved is proved here."""


@alone
@settings(max_examples=150)
@given(pairs(), st.sampled_from([2019, 2020]))
def test_what_is_compatible_accepts_a_thousand_messages_and_what_is_not_has_a_message(pair: tuple[Any, Any], draft: int) -> None:
    old, new = pair
    try:
        accepts, reads = validator(old, draft), validator(new, draft)
    except ValueError:
        return  # prefixItems holds only in 2020, items may be a list only before
    found = check(old, new, dialect=draft)
    if found.verdict == "compatible":
        assert [message for message in MESSAGES if accepts.is_valid(message) and not reads.is_valid(message)] == []
    elif found.verdict == "incompatible":
        assert accepts.is_valid(found.counterexample)
        assert not reads.is_valid(found.counterexample)
    else:
        assert all(doubt.keyword and doubt.pointer and doubt.reason and doubt.remedy for doubt in found.doubts)
        assert found.doubts


def _reordered(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _reordered(schema[key]) for key in reversed(schema)}
    return [_reordered(part) for part in schema] if isinstance(schema, list) else schema


@alone
@settings(max_examples=60)
@given(pairs())
def test_a_verdict_does_not_depend_on_how_the_schema_is_written(pair: tuple[Any, Any]) -> None:
    old, new = pair
    verdict = check(old, new).verdict
    assert check(_reordered(old), _reordered(new)).verdict == verdict
    assert check({"allOf": [old], "$defs": old["$defs"]}, {"allOf": [{"allOf": [new]}, True], "$defs": new["$defs"]}).verdict == verdict
    moved = {"$ref": "#/$defs/moved", "$defs": {**new["$defs"], "moved": {"allOf": new["allOf"]}}}
    assert check(old, moved).verdict == verdict
    assert check(moved, old).verdict == check(new, old).verdict


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (_closed(a=STRING, b=INTEGER), _closed(a=STRING), {"a": "", "b": 0}),
        ({"type": "number"}, INTEGER, 0.5),
        ({"items": {"enum": ["x", "y"]}}, {"items": {"const": "x"}}, ["y"]),
        ({"const": 1}, {"const": True}, 1),
        ({"minLength": 17, "maxLength": 34, "type": "string"}, {"maxLength": 33}, "a" * 34),
        ({"pattern": "^[A-Z]{3}-[0-9]+$", "type": "string"}, {"pattern": "^[A-Z]{3}-[0-9]{1,4}$"}, "A" * 3 + "-" + "0" * 5),
        ({}, {"additionalProperties": False}, {"a": {}}),
        ({"type": "object"}, {"maxProperties": 2}, None),
        ({"contains": {"minimum": 1}}, {"contains": {"minimum": 2}}, [1]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, {"uniqueItems": True}, [False, False]),
        ({"type": ["null", "string"]}, STRING, None),
        (
            {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}, "v": {"maximum": 4}}}}},
            {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}, "v": {"maximum": 3}}}}},
            {"v": 4},
        ),
    ],
)
def test_a_message_that_is_no_longer_accepted_is_shown_and_small(old: Any, new: Any, message: Any) -> None:
    found = check(old, new)
    assert found.verdict == "incompatible"
    assert found.refusal is not None
    assert message is None or json.dumps(found.counterexample) == json.dumps(message)
    assert (found.refusal.accepted_by, found.refusal.refused_by) == ("old", "new")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"pattern": "^aa$"}, {"pattern": "^a+$"}),
        ({"properties": {"x": {"$ref": "#"}, "y": {}}, "minProperties": 1}, {"properties": {"x": {"$ref": "#"}}}),
        ({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}]}, {"multipleOf": 12}),
        ({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True}, {"maxItems": 2}),
        ({"type": "array", "uniqueItems": True, "contains": {"const": 1}, "minContains": 2}, False),
        ({"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}, "minItems": 3}, {"items": {"type": "null"}}),
        ({"type": "boolean"}, {"enum": [True, False]}),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, {"enum": ["b", "a", "c"]}),
        ({"oneOf": [{"minimum": 3}, {"maximum": 2}]}, {}),
        ({"propertyNames": {"enum": ["a", "b"]}}, {"maxProperties": 2}),
        ({"patternProperties": {"^x": INTEGER}, "additionalProperties": False}, {"patternProperties": {"^xy": INTEGER}}),
        ({"dependentRequired": {"a": ["b"]}, "required": ["a"]}, {"if": {"type": "object"}, "then": {"required": ["b"]}}),
        ({"pattern": "(?=a)b"}, {"pattern": "(?=a)b", "title": "t"}),
    ],
)
def test_what_takes_some_thought_is_proved(old: Any, new: Any) -> None:
    assert check(old, new).verdict == "compatible"


def test_a_pattern_that_cannot_be_read_is_unknown_unless_a_text_shows_it() -> None:
    look = {"type": "string", "pattern": "^(?!admin)[a-z]+$"}
    unknown = check({**look, "minLength": 3}, {**look, "pattern": "^(?!adm)[a-z]+$"})
    assert (unknown.verdict, unknown.doubts[0].keyword) == ("unknown", "pattern")
    assert check(look, {**look, "maxLength": 2}).counterexample == "abc"


LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}


def test_what_refers_to_itself_without_going_deeper_is_unknown() -> None:
    found = check({}, LOOP)
    assert (found.verdict, found.doubts[0].keyword) == ("unknown", "$ref")
    assert "it could not be proved" in found.reason


def test_modes_say_who_must_understand_whom() -> None:
    narrow, wide = {"minimum": 2}, {"minimum": 1}
    verdicts = {mode: check(narrow, wide, mode).verdict for mode in ("none", "backward", "forward", "full")}  # type: ignore[arg-type]
    assert verdicts == {"none": "compatible", "backward": "compatible", "forward": "incompatible", "full": "incompatible"}
    refusal = check(narrow, wide, "full").refusal
    assert refusal is not None
    assert (refusal.message, refusal.accepted_by, refusal.refused_by) == (1, "new", "old")


def test_a_transitive_mode_looks_at_every_version() -> None:
    versions = [{"type": ["string", "null"]}, STRING]
    new = {"type": ["string", "integer"]}
    assert check(versions, new, "backward").verdict == "compatible"
    assert check(versions, new, "backward_transitive").verdict == "incompatible"
    assert check(versions, new, "backward_transitive").refusal[0] is None  # type: ignore[index]


def test_the_least_bump_is_the_honest_one() -> None:
    one = {"type": "object", "properties": {"a": INTEGER}, "title": "one"}
    assert check(one, {**one, "title": "two", "allOf": [{"properties": {"a": {"type": "number"}}}]}).least_bump == "patch"
    assert check({**one, "required": ["a"]}, one).least_bump == "minor"
    assert check(one, {**one, "required": ["a"]}).least_bump == "major"
    assert check(one, {**one, "required": ["a"]}, "forward").least_bump == "minor"
    assert check(one, {**one, "required": ["a"]}, "none").least_bump == "major"


def test_who_sends_only_what_its_schema_names_may_name_more_both_ways() -> None:
    one = {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}
    two = {"type": "object", "allOf": [one], "properties": {"b": STRING, "c": {"properties": {"d": STRING}}}}
    assert check(one, two, "full").verdict == "incompatible"
    assert check(one, two, "full", producer_closed=True).verdict == "compatible"
    assert check(one, {**two, "required": ["b"]}, "backward", producer_closed=True).counterexample == {"a": 0}


def test_drafts_are_each_read_in_their_own_dialect() -> None:
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [STRING], "additionalItems": False}
    new = {"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [STRING], "items": False}
    assert check(old, new, "full").verdict == "compatible"
    beside = {"$ref": "#/definitions/a", "minimum": 5, "definitions": {"a": INTEGER}}
    assert check(INTEGER, beside, dialect=7).verdict == "compatible"
    assert check(INTEGER, beside, dialect=2019).counterexample == 0


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strin"}, "at /type"),
        ({"$ref": "https://example.com/a.json"}, "it refers to https://example.com/a.json, which lies outside of it"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "is none of"),
        ({"$ref": "#/$defs/absent"}, "absent"),
        ("x", "cannot be compared"),
        ({"enum": [{1, 2}.union]}, "cannot be compared"),
    ],
)
def test_what_is_no_schema_is_refused_in_words(schema: Any, says: str) -> None:
    with pytest.raises(BadSchema, match=says):
        check({}, schema)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(BadSchema, match="there is no such mode"):
        check({}, {}, "sideways")  # type: ignore[arg-type]


# --- bounds ----------------------------------------------------------------------------------------------------------


def _wide(width: int, deep: int, least: int) -> Any:
    def below(level: int, at: int) -> Any:
        return {"$ref": f"#/$defs/d{level + 1}_{at}"} if level + 1 < deep else {"type": "integer", "minimum": least}

    defs = {
        f"d{level}_{at}": {"type": "object", "properties": {f"p{other}": below(level, other) for other in range(width)}}
        for level in range(deep)
        for at in range(width)
    }
    return {"$ref": "#/$defs/d0_0", "$defs": defs}


def _circular(width: int, least: int) -> Any:
    properties = {f"p{at}": {"$ref": f"#/$defs/d{at}"} for at in range(width)}
    node = {"type": "object", "properties": {**properties, "v": {"type": "integer", "minimum": least}}}
    return {"$ref": "#/$defs/d0", "$defs": {f"d{at}": deepcopy(node) for at in range(width)}}


def _many_choices(count: int, least: int) -> Any:
    def kind(at: int) -> Any:
        return {"type": "object", "properties": {"kind": {"const": f"k{at}"}, "v": {"minimum": least}}, "required": ["kind"]}

    return {
        "anyOf": [kind(at) for at in range(count)],
        "allOf": [{"anyOf": [kind(at), {"required": [f"a{at}"]}]} for at in range(count // 3)],
    }


@alone
@pytest.mark.parametrize(
    ("narrow", "wide"),
    [(_many_choices(30, 1), _many_choices(30, 0)), (_wide(12, 5, 1), _wide(12, 5, 0)), (_circular(12, 1), _circular(12, 0))],
    ids=["choices", "twelve by five", "circular"],
)
def test_what_keeps_others_busy_for_hours_is_decided(narrow: Any, wide: Any) -> None:
    assert check(narrow, wide).verdict == "compatible"
    assert check(wide, narrow).verdict == "incompatible"


def test_a_comparison_that_would_not_end_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(shortest: int) -> Any:
        schema: Any = {"type": "string", "minLength": shortest}
        for level in range(8):
            branch = {"required": [f"k{level}"], "properties": {f"k{level}": {"const": level}}}
            schema = {"if": branch, "then": schema, "else": {"properties": {f"z{level}": schema}}}
        return schema

    monkeypatch.setattr(inclusion, "Search", partial(Search, work=300))
    found = check(deep(1), deep(0))
    assert (found.verdict, found.doubts) == ("unknown", (inclusion.TOO_MUCH,))


def test_what_is_nested_too_deeply_is_unknown() -> None:
    schema: Any = STRING
    for _ in range(75):
        schema = {"items": {"anyOf": [schema, {"type": "null"}]}}
    assert check(schema, {"items": schema}).doubts == (inclusion.TOO_DEEP,)


def test_what_is_too_large_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inclusion, "_SCHEMAS_AT_MOST", 100)
    one, two = ({"properties": {f"p{at}": {"minimum": least} for at in range(100)}} for least in (1, 2))
    assert check(one, two).doubts == (inclusion.TOO_LARGE,)


# --- the second opinion ----------------------------------------------------------------------------------------------

CHOICES = {"anyOf": [{"properties": {"a": {"const": at}}, "required": ["a"]} for at in range(4)]}


def test_where_the_second_prover_contradicts_the_careful_verdict_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, "opinion", lambda *_: "no")
    assert check({"minimum": 2}, {"minimum": 1}).doubts == (inclusion.CONTRADICTED,)


def test_the_second_prover_is_asked_where_it_may_be_slow_in_a_process_of_its_own() -> None:
    assert second.opinion({"minimum": 1}, {"minimum": 2}, 2020, False) == "yes"
    assert second.opinion({"minimum": 2}, {"minimum": 1}, 2020, False) == "no"
    assert second.opinion({**CHOICES, "minimum": 1}, {"minimum": 0}, 2020, False, seconds=30) == "no"
    assert second.opinion(CHOICES, {}, 2020, False, seconds=0.000001) == "unknown"


def test_what_the_second_prover_says_is_lost_is_a_schema() -> None:
    lost = second.difference({"minimum": 1, "type": "integer"}, {"minimum": 2}, 2020, False)
    assert validator(lost, 2020).is_valid(1)
    assert not validator(lost, 2020).is_valid(2)
    assert second.difference(CHOICES, {"minimum": 2}, 2020, False) is False


def test_a_message_is_made_as_small_as_it_may_be() -> None:
    message = {"a": [1, "long", {"b": 7.5}], "c": None}
    wanted = {"type": "object", "required": ["a"], "properties": {"a": {"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2}}}
    assert shrunk(message, validator(wanted, 2020).is_valid) == {"a": [0, ""]}
