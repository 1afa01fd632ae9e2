"""Entries: what was written is read back, by versions that know less or more than the writer."""

from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import Fragment, decode, encode
from interlock.schemas.entries import KINDS, Entry, Fact, TaskRefused

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-(2**53), 2**53)
JSON = st.none() | st.booleans() | NUMBERS | TEXT | st.dictionaries(TEXT, TEXT, max_size=2) | st.lists(TEXT, max_size=2)


BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    str: TEXT,
    str | None: st.none() | TEXT,
    int: NUMBERS,
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    list[str]: st.lists(TEXT, max_size=2),
    dict[str, Any]: st.dictionaries(TEXT, JSON, max_size=2),
    dict[str, int]: st.dictionaries(TEXT, NUMBERS, max_size=2),
}


def _facts(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: BY_TYPE[hints[f.name]] for f in fields(cls)})


def _stored(kind: str, data: bytes) -> Entry:
    return Entry(seq=1, epoch=1, at=0, task="tsk_1", kind=kind, data=data, hash=b"")


@given(st.one_of(*map(_facts, KINDS.values())))
def test_a_fact_is_read_back(fact: Fact) -> None:
    assert _stored(fact.KIND, fact.encode()).open() == fact


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_from_the_future_is_left_out(kind: str) -> None:
    given_fields = dict.fromkeys((f.name for f in fields(KINDS[kind])), "")
    known = _stored(kind, encode(given_fields)).open()
    assert _stored(kind, encode({**given_fields, "from_the_future": 1})).open() == known


def test_kinds_name_their_own_class() -> None:
    assert all(kind == cls.KIND for kind, cls in KINDS.items())
    subclasses = {cls.KIND for cls in Fact.__subclasses__() if cls.__module__.startswith("interlock.schemas.") and cls.KIND}
    assert subclasses == set(KINDS)


def test_a_payload_that_is_bytes_already_is_not_encoded_twice() -> None:
    fact = TaskRefused(id="tsk_1", type="sale", error=Fragment(b'{"code":"refused"}'), by="cli")
    assert decode(fact.encode())["error"] == {"code": "refused"}
