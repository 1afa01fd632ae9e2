"""The chain names the first entry that was changed, removed or moved."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.orchestrator.ledger.chain import GENESIS, link, verify
from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerDamaged

TEXTS = st.text(max_size=5)
CONTENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(-9, 2**62), TEXTS, TEXTS, st.binary(max_size=20)), min_size=2, max_size=8)


def chained(contents: list[tuple[int, int, str, str, bytes]]) -> list[Entry]:
    entries, head = [], GENESIS
    for seq, (epoch, at, task, kind, data) in enumerate(contents, 1):
        head = link(head, seq, epoch, at, task, kind, data)
        entries.append(Entry(seq, epoch, at, task, kind, data, head))
    return entries


def first_bad(entries: list[Entry]) -> int:
    with pytest.raises(LedgerDamaged) as caught:
        verify(entries)
    return int(caught.value.seq)


def _flipped(data: bytes, bit: int) -> bytes:
    place, bit = divmod(bit % (len(data) * 8), 8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@given(contents=CONTENTS)
def test_what_was_chained_verifies(contents: list[Any]) -> None:
    assert verify(chained(contents)) == len(contents)


def test_an_empty_ledger_is_intact() -> None:
    assert verify([]) == 0


@given(
    contents=CONTENTS,
    which=st.integers(0, 7),
    bit=st.integers(0, 255),
    field=st.sampled_from(["data", "hash", "task", "kind", "at", "epoch"]),
)
def test_any_single_change_is_found_where_it_is(contents: list[Any], which: int, bit: int, field: str) -> None:
    entries = chained(contents)
    which %= len(entries)
    value = getattr(entries[which], field)
    if isinstance(value, bytes):
        changed: Any = _flipped(value, bit) if value else b"\0"
    else:
        changed = value + "\0" if isinstance(value, str) else value + 1
    entries[which] = replace(entries[which], **{field: changed})
    assert first_bad(entries) == which + 1


@given(contents=CONTENTS, which=st.integers(0, 6))
def test_a_removed_entry_is_found(contents: list[Any], which: int) -> None:
    entries = chained(contents)
    which %= len(entries) - 1
    del entries[which]
    assert first_bad(entries) == which + 1


@given(contents=CONTENTS, which=st.integers(0, 6), renumbered=st.booleans())
def test_two_swapped_entries_are_found(contents: list[Any], which: int, renumbered: bool) -> None:
    entries = chained(contents)
    which %= len(entries) - 1
    one, two = entries[which], entries[which + 1]
    entries[which : which + 2] = [replace(two, seq=one.seq), replace(one, seq=two.seq)] if renumbered else [two, one]
    assert first_bad(entries) == which + 1


@given(data=st.binary(max_size=9), task=st.text(max_size=9), cut=st.integers(0, 9))
def test_bytes_that_wander_from_one_field_to_the_next_are_seen(data: bytes, task: str, cut: int) -> None:
    kind, rest = task[:cut], task[cut:]
    assert link(GENESIS, 1, 1, 0, task, "", data) != link(GENESIS, 1, 1, 0, kind, rest + "x", data)
    if rest:
        assert link(GENESIS, 1, 1, 0, task, "", data) != link(GENESIS, 1, 1, 0, kind, rest, data)


@pytest.mark.parametrize("field", ["data", "task", "kind", "at"])
def test_a_field_of_another_type_is_damage_too(field: str) -> None:
    entries = chained([(1, 5, "tsk_a", "x", b"{}")] * 3)
    wrong: dict[str, Any] = {"data": "{}", "task": "\ud800", "kind": "\ud800", "at": 2**70}
    entries[1] = replace(entries[1], **{field: wrong[field]})
    assert first_bad(entries) == 2
