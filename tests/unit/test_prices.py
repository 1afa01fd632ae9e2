"""Prices are exact, known only where somebody charges them, and never lower than the worst case that was held."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.actors.models.prices import Price, Prices, Tier, read_overrides
from interlock.schemas.errors import BadDeclaration

OPENAI = "https://api.openai.com/v1"


class FixedClock:
    def now(self) -> int:
        return 1_760_000_000_000_000


def test_published_price_is_exact_per_token() -> None:
    price = Prices(OPENAI, FixedClock()).of("gpt-4o-mini")
    assert price is not None
    assert price.cost(1_000_000, 0) == Decimal("0.15")
    assert price.cost(0, 1_000_000) == Decimal("0.6")
    assert price.cost(1_000_000, 0, cached=1_000_000) == Decimal("0.075")


@pytest.mark.parametrize(("endpoint", "model"), [(OPENAI, "no-such-model"), ("http://127.0.0.1:8000/v1", "gpt-4o-mini")])
def test_unknown_model_and_foreign_endpoint_have_none(endpoint: str, model: str) -> None:
    assert Prices(endpoint, FixedClock()).of(model) is None


def test_override_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"gpt-4o-mini": {"input": "1.10", "output": 2}}')
    price = Prices(OPENAI, FixedClock(), read_overrides(str(file))).of("gpt-4o-mini")
    assert price is not None
    assert (price.worst_input(), price.worst_output()) == (Decimal("0.0000011"), Decimal("0.000002"))
    assert price.cost(10, 10, cached=5) == Decimal("0.000031")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"m": {"input": "1"}}', "model 'm' does not have"),
        ('{"m": {"input": "1", "output": "2", "cach": "0"}}', "model 'm' does not have"),
        ('{"m": {"input": "cheap", "output": "2"}}', "'input' of model 'm' is 'cheap'"),
        ('{"m": {"input": "1", "output": 0.5}}', "'output' of model 'm' is 0.5"),
        ('{"m": {"input": "-1", "output": "1"}}', "'input' of model 'm' is '-1'"),
    ],
)
def test_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(BadDeclaration) as refused:
        read_overrides(str(file))
    assert f"INTERLOCK_PRICES={file}" in str(refused.value)
    assert word in str(refused.value)


def test_no_file_no_overrides() -> None:
    assert read_overrides("") == {}


RATES = st.lists(st.tuples(st.integers(1, 10_000), st.decimals(0, 100, places=4)), max_size=3)
COUNTS = st.integers(0, 20_000)


@given(st.decimals(0, 100, places=4), RATES, COUNTS, COUNTS, COUNTS)
def test_actual_never_exceeds_the_worst_case(base: Decimal, above: list[tuple[int, Decimal]], input: int, output: int, cached: int) -> None:
    tiers = (Tier(0, base), *sorted(Tier(*tier) for tier in above))
    price = Price(tiers, tiers, tiers)
    worst = input * price.worst_input() + output * price.worst_output()
    assert price.cost(input, output, min(cached, input)) <= worst


def test_a_tier_holds_for_all_tokens_once_passed() -> None:
    tiers = (Tier(0, Decimal(1)), Tier(100, Decimal(2)))
    price = Price(tiers, tiers, tiers)
    assert [price.cost(input, 1) for input in (0, 100, 101)] == [1, 101, 204]
