"""Two wishes and little room: a first choice of places that fails proves nothing, and one that does is found."""

from itertools import product
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.schemas import check
from interlock.schemas.registry.proof import arrays, objects, second
from interlock.schemas.registry.replay import validator

STRING, INTEGER, EITHER = {"type": "string"}, {"type": "integer"}, {"type": ["integer", "string"]}

alone = patch.object(second, "opinion", lambda *_: "unknown")


def _pair(*items: Any) -> Any:
    return {"type": "array", "prefixItems": list(items), "maxItems": 2}


def _named(**properties: Any) -> Any:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _rest(schema: Any) -> Any:
    return {"additionalProperties": {"not": schema}}


ONE = {"type": "object", "maxProperties": 1}
NO_STRING, NO_INTEGER = {"not": {"contains": STRING}}, {"not": {"contains": INTEGER}}
THREE = {"type": "array", "prefixItems": [EITHER], "items": INTEGER, "maxItems": 3}


@alone
@pytest.mark.parametrize(
    ("old", "ways", "message"),
    [
        (ONE, [{"additionalProperties": STRING}, {"patternProperties": {"^b": INTEGER}}], {"b": True}),
        (ONE, [{"propertyNames": {"maxLength": 3}}, {"additionalProperties": STRING}], {"bbbbbb": True}),
        (ONE, [{"propertyNames": {"pattern": "^a"}}, {"propertyNames": {"pattern": "b$"}}], {"cc": True}),
        (ONE, [{"patternProperties": {"^a": STRING}}, {"patternProperties": {"b$": STRING}}], {"ab": True}),
        (_named(p=EITHER, q=INTEGER), [_rest(INTEGER), _rest(STRING)], {"p": "s", "q": 1}),
        (_named(p=EITHER, q=STRING), [_rest(INTEGER), _rest(STRING)], {"p": 1, "q": "s"}),
        (_pair(EITHER, INTEGER), [{"items": {"not": INTEGER}}, {"items": {"not": STRING}}, {"prefixItems": [INTEGER]}], ["s", 1]),
        (_pair(EITHER, INTEGER), [NO_INTEGER, NO_STRING], ["s", 1]),
        (_pair(EITHER, STRING), [NO_INTEGER, NO_STRING], [1, "s"]),
        (_pair(STRING, EITHER), [NO_INTEGER, NO_STRING], ["s", 1]),
        (THREE, [{"not": {"contains": INTEGER, "minContains": 2}}, NO_STRING], ["s", 1, 2]),
        ({**_pair(EITHER, INTEGER), "contains": STRING}, [{"items": STRING}, False], ["s", 1]),
        ({**_pair(EITHER, INTEGER), "allOf": [{"contains": STRING}, {"contains": INTEGER}]}, [False, STRING], ["s", 1]),
        ({**THREE, "contains": STRING}, [{"uniqueItems": True}, NO_INTEGER], ["s", 1, 1]),
        ({**ONE, "propertyNames": {"enum": ["a", "b"]}, "maxProperties": 2}, [_rest(INTEGER), _rest(STRING)], {"a": 1, "b": "s"}),
    ],
)
def test_another_choice_of_places_is_found(old: Any, ways: list[Any], message: Any) -> None:
    assert validator(old, 2020).is_valid(message)
    for new in ({"anyOf": ways}, {"anyOf": ways[::-1]}):
        assert not validator(new, 2020).is_valid(message)
        assert check(old, new).verdict == "incompatible"


@alone
@pytest.mark.parametrize(
    ("old", "ways"),
    [
        (ONE, [_rest(INTEGER), _rest(STRING)]),
        (_named(p=EITHER), [_rest(INTEGER), _rest(STRING)]),
        ({**ONE, "propertyNames": {"const": "a"}, "maxProperties": 2}, [_rest(INTEGER), _rest(STRING)]),
        (_pair(INTEGER, INTEGER), [NO_INTEGER, NO_STRING]),
        ({**_pair(EITHER, INTEGER), "maxItems": 1}, [NO_INTEGER, NO_STRING]),
        (THREE, [{"not": {"contains": INTEGER, "minContains": 3}}, NO_STRING]),
        ({**THREE, "maxItems": 2, "contains": STRING}, [{"uniqueItems": True}, False]),
    ],
)
def test_where_no_choice_does_it_is_proved(old: Any, ways: list[Any]) -> None:
    assert check(old, {"anyOf": ways}).verdict == "compatible"
    assert check(old, {"anyOf": ways[::-1]}).verdict == "compatible"


@alone
def test_where_not_every_choice_is_tried_it_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_TRIED_AT_MOST", 0)
    monkeypatch.setattr(objects, "_TRIED_AT_MOST", 0)
    assert check({**_pair(EITHER), "maxItems": 1}, {"anyOf": [NO_INTEGER, NO_STRING]}).verdict == "unknown"
    assert check(ONE, {"anyOf": [_rest(INTEGER), _rest(STRING)]}).verdict == "unknown"


KINDS = [STRING, INTEGER, EITHER, {"const": 1}, {"enum": [1, "a"]}, {"enum": ["a", "b"]}, {"type": "boolean"}, {}]
ITEMS = [1, 2, "a", "b", True]
NAMES = ["a", "b", "ab", "cc"]
kinds = st.sampled_from(KINDS)
name_rules = st.sampled_from([{"pattern": "^a"}, {"pattern": "b$"}, {"maxLength": 1}, {"enum": ["a", "b"]}, {"const": "ab"}])

lists = st.builds(
    lambda items, rest, most, least, unique: {
        "type": "array", "prefixItems": items, "items": rest, "maxItems": most, "minItems": least, "uniqueItems": unique
    },
    st.lists(kinds, min_size=1, max_size=3), st.one_of(kinds, st.just(False)), st.integers(1, 3), st.integers(0, 2), st.booleans(),
)  # fmt: skip
maps = st.builds(
    lambda known, rest, most, least, more: {
        "type": "object", "properties": known, "additionalProperties": rest, "maxProperties": most, "minProperties": least, **more
    },
    st.dictionaries(st.sampled_from(NAMES), kinds, max_size=3), st.one_of(kinds, st.just(False)), st.integers(1, 3), st.integers(0, 2),
    st.one_of(st.just({}), st.builds(lambda rule: {"propertyNames": rule}, name_rules)),
)  # fmt: skip
item_rules = st.one_of(
    st.builds(lambda kind: {"items": kind}, kinds),
    st.builds(lambda kind, least: {"not": {"contains": kind, "minContains": least}}, kinds, st.integers(1, 2)),
    st.builds(lambda kind, most: {"contains": kind, "minContains": 0, "maxContains": most}, kinds, st.integers(0, 2)),
    st.just({"uniqueItems": True}),
)
property_rules = st.one_of(
    st.builds(lambda kind: {"additionalProperties": kind}, kinds),
    st.builds(lambda name, kind: {"properties": {name: {}}, "additionalProperties": kind}, st.sampled_from(NAMES), kinds),
    st.builds(lambda rule: {"propertyNames": rule}, name_rules),
    st.builds(lambda pattern, kind: {"patternProperties": {pattern: kind}}, st.sampled_from(["^a", "b$", "c"]), kinds),
)
crowded = st.one_of(
    st.tuples(lists, st.lists(item_rules, min_size=2, max_size=3)), st.tuples(maps, st.lists(property_rules, min_size=2, max_size=3))
)

LISTS = [list(items) for size in range(4) for items in product(ITEMS, repeat=size)]
MAPS = [
    {name: value for name, value in zip(NAMES, values, strict=True) if value is not None}
    for values in product([None, 1, "a", "b", True], repeat=4)
]


@alone
@settings(max_examples=150)
@given(crowded)
def test_a_full_container_of_which_two_things_are_asked_is_never_proved_wrongly(pair: tuple[Any, list[Any]]) -> None:
    old, ways = pair
    accepts, reads = validator(old, 2020), validator({"anyOf": ways}, 2020)
    if check(old, {"anyOf": ways}).verdict == "compatible":
        messages: list[Any] = [*LISTS, *MAPS]
        assert [message for message in messages if accepts.is_valid(message) and not reads.is_valid(message)] == []
