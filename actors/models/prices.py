"""What a model costs: exact decimal dollars per token, or not known.

A price is known only for the endpoint that charges it: a model's name at an endpoint of your own says nothing. A file named by
INTERLOCK_PRICES (`{model: {"input": "USD per 1M tokens", "output": ...}}`, optionally `"cached"`) goes before all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from genai_prices import Usage, calc_price

from interlock.actors.models.declared import Declared
from interlock.schemas.ports import Clock


class Tier(NamedTuple):
    """USD per token, once the input is longer than `above` tokens; it then holds for all of them."""

    above: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price; each rate as tiers in ascending order. `cached`: input that the endpoint had in its cache."""

    input: tuple[Tier, ...]
    output: tuple[Tier, ...]
    cached: tuple[Tier, ...]

    def worst_input(self) -> Decimal:
        return max(tier.usd for tier in self.input)

    def worst_output(self) -> Decimal:
        return max(tier.usd for tier in self.output)

    def cost(self, input: int, output: int, cached: int = 0) -> Decimal:
        """USD for a call; `cached` of its `input` tokens came from the endpoint's cache."""
        fresh = (input - cached) * _rate(self.input, input)
        return fresh + cached * _rate(self.cached, input) + output * _rate(self.output, input)


def _rate(tiers: tuple[Tier, ...], input: int) -> Decimal:
    return next(tier.usd for tier in reversed(tiers) if input > tier.above or tier.above == 0)


class Prices:
    """Prices at one endpoint (its base URL); `overrides` by model as `read_overrides` gives them."""

    def __init__(self, endpoint: str, clock: Clock, overrides: Mapping[str, Price] | None = None) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._overrides = dict(overrides or {})

    def of(self, model: str) -> Price | None:
        """The price of `model` now, `None` where it is not known."""
        override = self._overrides.get(model)
        return override if override is not None else self._published(model)

    def _published(self, model: str) -> Price | None:
        now = datetime.fromtimestamp(self._clock.now() / 1_000_000, UTC)
        nothing = Usage(input_tokens=0, output_tokens=0)
        try:
            rates = calc_price(nothing, model, provider_api_url=self._endpoint, genai_request_timestamp=now).model_price
        except LookupError:
            return None
        if rates.input_mtok is None or rates.output_mtok is None or rates.requests_kcount is not None:
            return None
        input = _tiers(rates.input_mtok)
        return Price(input, _tiers(rates.output_mtok), input if rates.cache_read_mtok is None else _tiers(rates.cache_read_mtok))


def _tiers(rate: Any) -> tuple[Tier, ...]:
    if isinstance(rate, Decimal):
        return (Tier(0, rate.scaleb(-6)),)
    return (Tier(0, rate.base.scaleb(-6)), *(Tier(tier.start, tier.price.scaleb(-6)) for tier in rate.tiers))


def read_overrides(path: str) -> dict[str, Price]:
    """The prices in the file that INTERLOCK_PRICES names; none for an empty path, `BadDeclaration` for a file that is wrong."""
    remedy = 'Write {"MODEL": {"input": "0.15", "output": "0.60"}}: USD per million tokens, as strings.'
    file = Declared("INTERLOCK_PRICES", path, remedy)

    def price(model: str, rates: Any) -> Price:
        if not isinstance(rates, dict) or not {"input", "output"} <= set(rates) <= {"input", "output", "cached"}:
            raise file.bad(f"model {model!r} does not have exactly `input`, `output` and optionally `cached`")
        amounts = {name: _amount(value) for name, value in rates.items()}
        for name, amount in amounts.items():
            if not amount.is_finite() or amount < 0:
                raise file.bad(f"{name!r} of model {model!r} is {rates[name]!r}, which is no exact amount of money")
        tiers = {name: (Tier(0, amount.scaleb(-6)),) for name, amount in amounts.items()}
        return Price(tiers["input"], tiers["output"], tiers.get("cached", tiers["input"]))

    return file.read(price)


def _amount(value: Any) -> Decimal:
    try:
        return Decimal(value) if isinstance(value, str | int) and not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        return Decimal("NaN")
