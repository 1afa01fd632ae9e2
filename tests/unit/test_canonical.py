"""Encoding: the same bytes for the same value, whatever the order it was made in; equal digests for equal JSON."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import Fragment, decode, digest, encode

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def _turned(value: Any) -> Any:
    """The same JSON value with every object written in the opposite order."""
    if isinstance(value, dict):
        return {key: _turned(item) for key, item in reversed(value.items())}
    return [_turned(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_json_survives(value: Any) -> None:
    assert decode(encode(value)) == value


@given(JSON)
def test_order_of_keys_does_not_show(value: Any) -> None:
    assert encode(_turned(value)) == encode(value)
    assert digest(_turned(value)) == digest(value)


@given(JSON)
def test_a_digest_does_not_depend_on_who_encoded(value: Any) -> None:
    assert digest(json.loads(json.dumps(value))) == digest(value)


@given(JSON, JSON)
def test_other_values_have_other_digests(one: Any, other: Any) -> None:
    if encode(one) != encode(other) and one != other:
        assert digest(one) != digest(other)


def test_a_known_digest() -> None:
    assert digest({"b": 1.0, "a": "é"}) == digest({"a": "é", "b": 1})
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_neighbouring_large_ids_do_not_fall_together() -> None:
    assert len({digest({"id": 2**60 + n}) for n in range(4)}) == 4


def test_money_is_a_string_and_sets_are_sorted() -> None:
    assert encode({"usd": Decimal("0.50"), "names": {"b", "a"}}) == b'{"names":["a","b"],"usd":"0.50"}'


def test_a_fragment_is_embedded_as_it_is() -> None:
    assert encode({"data": Fragment(b'{"z":1,"a":2}')}) == b'{"data":{"z":1,"a":2}}'


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"value": object()})
    with pytest.raises(ValueError, match="unexpected"):
        decode(b"{")
