"""Frames come back from the wire as the same frames, payloads untouched."""

from collections.abc import Sequence
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.frames import BYTES_AT_MOST, FRAMES, FRAMES_AT_MOST, Answered, LetGo, carried, pack, tagged, unpack, untagged

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
PLAIN = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | TEXT | st.binary(max_size=8)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bytes: st.binary(max_size=32),
    int: INTEGERS,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    list[str]: st.lists(TEXT, max_size=3),
    Sequence[str]: st.lists(TEXT, max_size=3),
    list[Any]: st.lists(PLAIN, max_size=3),
    list[list[Any]]: st.lists(st.lists(PLAIN, max_size=3), max_size=3),
}


def _frames_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{name: BY_TYPE[hint] for name, hint in get_type_hints(cls).items()})


ANY_FRAME = st.one_of(*map(_frames_of, FRAMES))


@given(st.lists(PLAIN, max_size=4), st.lists(ANY_FRAME, max_size=6))
def test_an_exchange_survives_the_wire(head: list[Any], frames: list[Any]) -> None:
    seen_head, seen = unpack(pack(head, carried(frames)))
    assert seen_head == head
    assert seen == frames
    assert [type(frame) for frame in seen] == [type(frame) for frame in frames]


@given(st.lists(st.integers(0, 2 * BYTES_AT_MOST), min_size=1, max_size=5))
def test_an_exchange_carries_what_a_call_carries_and_one_frame_at_least(sizes: list[int]) -> None:
    frames = [Answered("dsp", "eff", True, bytes(size)) for size in sizes]
    taken = carried(frames)
    assert unpack(pack([], taken))[1] == frames[: len(taken)]
    assert len(taken) == 1 or sum(map(len, taken)) <= BYTES_AT_MOST
    if len(taken) < len(frames):
        (left_out,) = carried(frames[len(taken) :][:1])
        assert sum(map(len, taken)) + len(left_out) > BYTES_AT_MOST


def test_an_exchange_carries_so_many_frames_at_most() -> None:
    assert len(carried(LetGo(str(n), "1") for n in range(1000))) == FRAMES_AT_MOST


@given(ANY_FRAME)
def test_a_frame_may_lie_inside_another(frame: Any) -> None:
    assert untagged(tagged(frame)) == frame


def test_every_frame_has_its_own_tag() -> None:
    tags = [tagged(cls(*[None] * len(cls._fields)))[0] for cls in FRAMES]
    assert tags == list(range(len(FRAMES)))


def test_a_frame_of_another_shape_is_refused() -> None:
    tag = tagged(Answered("dsp", "eff", True, b"1"))[0]
    with pytest.raises(TypeError):
        untagged([tag, "dsp"])
