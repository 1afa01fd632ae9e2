"""Laws of the meters: no limit is overrun, everything is idempotent, the journal folds to the live state."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.actors.supervisor.journal import MemoryJournal
from interlock.actors.supervisor.meters import Meters
from interlock.schemas.budget import Amount
from interlock.schemas.errors import BudgetExceeded, Fenced, Refused
from interlock.schemas.ports import Reservation

LIMITS: dict[str, Amount] = {"tokens": 100, "steps": 6, "usd": Decimal("0.30"), "writes/db": 2}


class FixedClock:
    def now(self) -> int:
        return 42


def opened(limits: dict[str, Amount] | None = None) -> Meters:
    meters = Meters()
    meters.open("tsk_a", LIMITS if limits is None else limits, 1)
    return meters


def reservation(id: str, base: Any = None, unit: Any = None, wanted: int = 0, least: int = 0) -> Reservation:
    return Reservation(id, "tsk_a", base or {}, unit or {}, wanted, least)


def test_as_many_units_as_fit_under_every_limit() -> None:
    meters = opened()
    grant, _ = meters.reserve(reservation("e1", {"tokens": 10, "steps": 1}, {"tokens": 1, "usd": Decimal("0.01")}, wanted=80, least=5))
    assert (grant.units, grant.error) == (30, None)
    assert meters.used("tsk_a")["usd"] == (0, Decimal("0.30"), Decimal("0.30"))
    assert meters.used("tsk_a")["tokens"] == (0, 40, 100)


def test_all_or_nothing_and_the_refusal_says_by_how_much() -> None:
    meters = opened()
    meters.reserve(reservation("e1", {"tokens": 70}))
    grant, changes = meters.reserve(reservation("e2", {"tokens": 20, "steps": 1}, {"tokens": 1}, wanted=50, least=11))
    assert isinstance(grant.error, BudgetExceeded)
    said = {"scope": "task", "limit": "tokens", "allowed": "100", "used": "0", "reserved": "70", "asked": "31"}
    assert {name: grant.error.facts[name] for name in said} == said
    assert changes == []
    assert "steps" not in {meter for meter, (_, held, _) in meters.used("tsk_a").items() if held}


def test_a_charge_above_a_limit_stops_everything_that_follows() -> None:
    meters = opened()
    meters.reserve(reservation("e1", {"tokens": 50}))
    meters.settle("e1", {"tokens": 101})
    assert meters.used("tsk_a")["tokens"] == (101, 0, 100)
    grant, _ = meters.reserve(reservation("e2", {"steps": 1}))
    assert isinstance(grant.error, BudgetExceeded)
    assert grant.error.limit == "tokens"


def test_a_fenced_task_gets_nothing_also_not_again() -> None:
    meters = opened()
    meters.reserve(reservation("e1", {"tokens": 5}, {"tokens": 1}, wanted=3))
    meters.fence("tsk_a", "kill by ann")
    assert isinstance(meters.reserve(reservation("e2"))[0].error, Fenced)
    assert isinstance(meters.reserve(reservation("e1"))[0].error, Fenced)
    assert meters.under_way("tsk_a") == ["e1"]


def test_a_closed_task_is_forgotten_and_late_calls_are_harmless() -> None:
    meters = opened()
    meters.reserve(reservation("e1", {"tokens": 5}))
    assert len(meters.close("tsk_a", 0)) == 1
    assert (meters.close("tsk_a", 0), meters.settle("e1", {"tokens": 1}), meters.used("tsk_a")) == ([], [], {})
    assert isinstance(meters.reserve(reservation("e2"))[0].error, Fenced)
    assert not meters._tasks
    assert not meters._owner


def test_a_closed_task_under_an_order_is_kept_until_released() -> None:
    meters = opened()
    for id in ("e1", "e2"):
        meters.reserve(reservation(id, {"tokens": 5}))
    meters.fence("tsk_a", "kill by ann")
    meters.close("tsk_a", 0)
    meters.settle("e1", {"tokens": 1})
    assert meters.under_way("tsk_a") == ["e2"]
    assert isinstance(meters.reserve(reservation("e3"))[0].error, Fenced)
    meters.release("tsk_a")
    assert not meters._tasks
    assert not meters._owner


@pytest.mark.parametrize("amount", [-1, Decimal("NaN"), Decimal("-0.01"), Decimal("Infinity")])
def test_an_amount_is_a_number_of_zero_or_more(amount: Amount) -> None:
    grant, changes = opened().reserve(reservation("e1", {"usd": amount, "tokens": 1}))
    assert isinstance(grant.error, Refused)
    assert changes == []


money = st.integers(0, 40).map(lambda cents: Decimal(cents) / 100)
amounts = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(0, 60),
        "steps": st.integers(0, 3),
        "usd": money,
        "writes/db": st.integers(0, 2),
        "free": st.integers(0, 9),
    },
)
commands = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from("abcdefgh"), amounts, amounts, st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("settle"), st.sampled_from("abcdefgh"), st.integers(0, 100), st.booleans()),
        st.tuples(st.just("close")),
        st.tuples(st.just("open"), st.integers(0, 100), st.integers(1, 2)),
    ),
    max_size=40,
)


def play(meters: Meters, journal: MemoryJournal, script: list[Any], overrun: bool) -> None:
    """Run the commands; a settlement uses a share of what is held (or, with `overrun`, sometimes more)."""
    for name, *args in script:
        if name == "open":
            tokens, epoch = args if overrun else (args[0], 0)
            journal.append(*meters.open("tsk_a", {**LIMITS, "tokens": tokens}, 1, epoch))
        elif name == "close" and overrun:
            journal.append(*meters.close("tsk_a", 0))
        elif name == "reserve":
            id, base, unit, wanted, least = args
            known = meters._tasks.get("tsk_a")
            before = meters.used("tsk_a")
            grant, changes = meters.reserve(reservation(id, base, unit, wanted, least))
            journal.append(*changes)
            assert grant.error is None or (changes == [] and meters.used("tsk_a") == before)
            assert grant.error is not None or not changes or least <= grant.units <= max(wanted, least)
            # The same request again changes nothing and gets the same answer.
            if grant.error is None:
                assert known is not None
                assert meters.reserve(reservation(id, base, unit, wanted, least)) == (grant, [])
        elif name == "settle":
            id, percent, more = args
            task = meters._tasks.get("tsk_a")
            held = task.held[id].amounts if task and id in task.held else {}
            share = {meter: (amount if overrun and more else type(amount)(amount * percent // 100)) for meter, amount in held.items()}
            actual = {meter: amount + (7 if overrun and more else 0) for meter, amount in share.items()}
            journal.append(*meters.settle(id, actual))
            assert meters.settle(id, {"tokens": 5}) == []


@given(commands)
def test_used_and_reserved_never_pass_a_limit(script: list[Any]) -> None:
    meters = opened()
    journal = MemoryJournal(FixedClock())
    for command in script:
        play(meters, journal, [command], overrun=False)
        for meter, (used, reserved, limit) in meters.used("tsk_a").items():
            assert used >= 0
            assert reserved >= 0
            assert limit is None or used + reserved <= limit, meter
    task = meters._tasks["tsk_a"]
    for meter, (_, reserved, _) in meters.used("tsk_a").items():
        assert reserved == sum(held.amounts.get(meter, 0) for held in task.held.values())


@given(commands)
def test_the_journal_folds_to_the_live_state(script: list[Any]) -> None:
    journal = MemoryJournal(FixedClock())
    meters = Meters()
    journal.append(*meters.open("tsk_a", LIMITS, 1))
    play(meters, journal, script, overrun=True)
    folded = Meters()
    for row in MemoryJournal(FixedClock(), journal.store).rows():
        folded.apply(row.kind, row.task, row.data)
    assert folded._tasks == meters._tasks
    assert folded._owner == meters._owner


@pytest.mark.parametrize("limit", ["1e300", "1e-300", "9" * 60, "0.000000000000000000001"])
def test_absurd_limits_and_amounts_stop_nobody_else(limit: str) -> None:
    meters = Meters()
    meters.open("tsk_a", {"usd": Decimal(limit), "writes/x": 10**30, "seconds": Decimal("1e300")}, 0)
    meters.open("tsk_b", {"usd": Decimal(5)}, 0)
    for task in ("tsk_a", "tsk_b"):
        meters.reserve(Reservation(f"eff_{task}", task, {"usd": Decimal("0.000000001")}, {}))
        meters.reserve(Reservation(f"eff_{task}2", task, {"usd": Decimal("0.1"), "writes/x": 1}, {}))
        grant, changes = meters.reserve(Reservation(f"eff_{task}3", task, {"usd": Decimal("1e300")}, {}))
        assert isinstance(grant.error, Refused)
        assert changes == []
    with pytest.raises(Refused):
        meters.settle("eff_tsk_b", {"usd": Decimal("1e300")})
    with pytest.raises(Refused):
        meters.settle("eff_tsk_b", {"tokens": 2**64})
    assert meters.used("tsk_b")["usd"] == (0, Decimal("0.100000001"), 5)


def test_a_later_orchestrator_takes_a_budget_over_with_its_own_limits_and_what_was_used() -> None:
    meters = opened({"steps": 20})
    meters.reserve(reservation("e1", {"steps": 4}))
    assert meters.open("tsk_a", {"steps": 5}, 2) == []
    meters.open("tsk_a", {"steps": 5}, 2, 1)
    assert (meters.used("tsk_a")["steps"], meters.accepted("tsk_a")) == ((0, 4, 5), 2)
    assert meters.reserve(reservation("e2", {"steps": 2}))[0].error is not None


def test_what_a_gateway_that_is_gone_held_is_used_and_said_the_same_however_often_asked() -> None:
    meters = Meters()
    meters.open("t", {"tokens": 100}, 0)
    for id, tokens in (("e#1@g", 10), ("e#1@g/2", 20), ("e#1@g1", 1), ("e#2@g", 2)):
        meters.reserve(Reservation(id, "t", {"tokens": tokens}, {}))
    meters.settle("e#1@g", {"tokens": 7})
    assert [meters.forfeit("t", "e#1@g")[0] for _ in range(2)] == [{"tokens": 27}, {"tokens": 27}]
    assert meters.used("t")["tokens"] == (27, 3, 100)
    assert meters.forfeit("other", "e#1@g") == ({}, [])
