"""Very many moments, and what is due of them."""

from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.alarms import Alarms

STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 9))), max_size=40)


@given(STEPS, st.integers(0, 10))
def test_what_is_due_is_what_was_set_last_in_order(steps: list[tuple[str, int | None]], now: int) -> None:
    alarms, known = Alarms(), dict[str, int]()
    for name, at in steps:
        if at is None:
            alarms.drop(name)
            known.pop(name, None)
        else:
            alarms.set(name, at)
            known[name] = at
    assert (set(alarms), len(alarms)) == (set(known), len(known))
    assert alarms.first() == min((at for at in known.values() if at), default=0)
    due = alarms.due(now, 100)
    assert sorted(due) == sorted(name for name, at in known.items() if 0 < at <= now)
    assert [known[name] for name in due] == sorted(known[name] for name in due)
    assert set(alarms) == set(known), "they stay known"
    assert alarms.due(now, 100) == []


def test_no_more_are_due_at_once_than_is_asked_for() -> None:
    alarms = Alarms()
    for n in range(5):
        alarms.set(f"{n}", 10 - n)
    assert [alarms.due(8, 2), alarms.due(8, 2), alarms.first()] == [["4", "3"], ["2"], 9]


def test_moments_that_were_replaced_do_not_pile_up() -> None:
    alarms = Alarms()
    for n in range(10_000):
        alarms.set("one", 2**60 + n)
    assert len(alarms._heap) < 1100
    assert alarms.first() == 2**60 + 9999
