"""Ids: fresh ones sort by time and never meet, derived ones are the same for ever."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.ids import derived, fresh, trace_of

PARTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x1f")), min_size=1, max_size=4)


def test_a_fresh_id_looks_as_promised() -> None:
    assert re.fullmatch(r"tsk_[0-9abcdefghjkmnpqrstvwxyz]{26}", fresh("tsk"))


def test_fresh_ids_differ() -> None:
    assert len({fresh("tsk") for _ in range(1000)}) == 1000


@given(st.integers(0, 2**47), st.integers(1, 2**47))
def test_fresh_ids_sort_by_time(earlier: int, gap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for millisecond in (earlier, earlier + gap):
            patch.setattr(time, "time_ns", lambda at=millisecond: at * 1_000_000)
            made.append(fresh("tsk"))
    assert made[0] < made[1]


def test_derived_ids_never_change() -> None:
    """These stand in ledgers: another value here would repeat effects that were recorded."""
    assert derived("eff", "dsp_1", "write", "create_invoice", 1) == "eff_9dbe7da3a841f08d307b47767b75b85e"
    assert trace_of("tsk_1") == "5a70d4bd6f2b68d4bb9046a41925ea60"


@given(PARTS, PARTS)
def test_derived_ids_differ_where_a_part_differs(one: list[str], other: list[str]) -> None:
    assert (derived("eff", *one) == derived("eff", *other)) == (one == other)


def test_numbers_and_their_texts_are_one_part() -> None:
    assert derived("eff", 1) == derived("eff", "1")


def test_a_trace_id_is_w3c() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", trace_of("tsk_1"))
    assert trace_of("tsk_1") != trace_of("tsk_2")
