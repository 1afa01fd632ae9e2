"""Budgets: exact amounts, limits that are limits, and submits that may only lower them."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.budget import Amounts, Budget, lowered, parse_amounts, writes_meter
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BadDeclaration, BudgetRaised

METERS = ["tokens", "steps", "seconds", "usd", "writes/ledger-db"]
MONEY = st.decimals(0, 10**6, places=6)


def _amounts(meters: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    amount = {meter: MONEY if meter in ("usd", "seconds") else st.integers(0, 10**9) for meter in meters}
    return st.fixed_dictionaries({}, optional=amount)


def test_limits_name_what_is_set_and_nothing_else() -> None:
    budget = Budget(tokens=20_000, steps=None, seconds=1.5, usd="0.50", writes={"ledger-db": 1})
    assert budget.limits() == {"tokens": 20_000, "seconds": Decimal("1.5"), "usd": Decimal("0.50"), writes_meter("ledger-db"): 1}
    assert Budget(tokens=None, steps=None, seconds=None).limits() == {}


def test_money_is_exact() -> None:
    assert sum([Budget(usd="0.10").limits()["usd"]] * 3) == Decimal("0.30")


@pytest.mark.parametrize(
    "wrong",
    [
        {"usd": 0.5},
        {"usd": "half a dollar"},
        {"usd": "NaN"},
        {"usd": "-0.01"},
        {"tokens": -1},
        {"steps": -1},
        {"seconds": -0.1},
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"writes": {"ledger-db": -1}},
    ],
)
def test_what_is_no_limit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadDeclaration):
        Budget(**wrong)


@given(_amounts(METERS))
def test_amounts_survive_json_exactly(amounts: dict[str, Any]) -> None:
    assert parse_amounts(decode(encode(amounts))) == amounts


@given(_amounts(METERS), _amounts(METERS))
def test_a_submit_lowers_or_is_refused(declared: Amounts, asked: Amounts) -> None:
    raised = [meter for meter in asked if meter in declared and asked[meter] > declared[meter]]
    if raised:
        with pytest.raises(BudgetRaised) as refused:
            lowered(declared, asked)
        assert refused.value.limit in raised
        return
    limits = lowered(declared, asked)
    assert limits.keys() == declared.keys() | asked.keys()
    assert all(limits[meter] <= declared[meter] for meter in declared)
    assert all(limits[meter] == asked[meter] for meter in asked)
