"""Budgets: what a task may use at the most, as independent hard limits on named meters.

Meters are `input_tokens`, `output_tokens` and `tokens` (both together), `steps` (model and tool calls), `messages` (asks of the workflow),
`seconds` (wall clock), `working_seconds` (without those in which all of it waits for a human), `usd` and `writes/SYSTEM` (side effects on
one external system). Amounts are exact: whole numbers, and `Decimal` for money and time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from interlock.schemas.errors import BadDeclaration, BudgetRaised
from interlock.schemas.times import LONGEST_SECONDS

Amount = int | Decimal
Amounts = Mapping[str, Amount]

TOKENS, STEPS, SECONDS, USD = "tokens", "steps", "seconds", "usd"
INPUT, OUTPUT, MESSAGES, WORKING = "input_tokens", "output_tokens", "messages", "working_seconds"
METERS = (INPUT, OUTPUT, TOKENS, STEPS, MESSAGES, SECONDS, WORKING, USD)
Estimate = Literal["bound", "learned"]
BOUND: Estimate = "bound"
LEARNED: Estimate = "learned"
OF_MODELS = (INPUT, OUTPUT, TOKENS, USD)
"""What only model calls use."""
EXACT_METERS = frozenset((USD, SECONDS, WORKING))
"""Those that are no whole numbers."""
AT_MOST: dict[str, int] = {SECONDS: LONGEST_SECONDS, WORKING: LONGEST_SECONDS}
"""The largest amount of a meter; of those that are not named, as large as a JSON number is exact."""
EXACT = 2**53
_PLACES = 30
_METER = re.compile("|".join((*METERS, "writes/.+")))


def writes_meter(system: str) -> str:
    return f"writes/{system}"


def parse_amount(meter: str, value: Any) -> Amount:
    """One amount from JSON: money and seconds as exact decimals, everything else as a whole number."""
    if meter in EXACT_METERS:
        return value if type(value) is Decimal else Decimal(str(value))
    return int(value)


def parse_amounts(values: Mapping[str, Any]) -> dict[str, Amount]:
    return {meter: parse_amount(meter, value) for meter, value in values.items()}


def wire_amounts(amounts: Amounts) -> dict[str, int | str]:
    """Amounts as plain JSON: what is no whole number is a string, so that it stays exact."""
    return {meter: str(amount) if isinstance(amount, Decimal) else amount for meter, amount in amounts.items()}


def asked_amounts(values: Mapping[str, Any]) -> dict[str, Amount]:
    """The limits that a driver asks for, as JSON; `BadDeclaration` for what is no meter or no amount."""
    for meter, value in values.items():
        if not _METER.fullmatch(meter):
            remedy = f"Use {', '.join(METERS)} or writes/SYSTEM, as in tokens=5000,usd=0.10."
            raise BadDeclaration(what=f"budget {meter}={value}", problem=f"{meter or 'an empty name'} is no meter", remedy=remedy)
        remedy = "Write limits as in tokens=5000,usd=0.10."
        text = str(value)
        what = f"budget {meter}={text[:40]}"
        if not _is_amount(meter, text):
            kind = "a number" if meter in EXACT_METERS else "a whole number"
            raise BadDeclaration(what=what, problem=f"that is not {kind} of zero or more", remedy=remedy)
        if not is_sane(meter, Decimal(text)):
            raise BadDeclaration(what=what, problem=f"the most that {meter} can be is {_most(meter)}", remedy=remedy)
    return parse_amounts(values)


def is_sane(meter: str, amount: Amount) -> bool:
    """Whether an amount is one that meters and clocks can count with: not beyond every bound, not finer than every money."""
    exponent = Decimal(amount).as_tuple().exponent
    return amount <= _most(meter) and isinstance(exponent, int) and exponent >= -_PLACES


def _most(meter: str) -> int:
    return AT_MOST.get(meter, EXACT)


def _is_amount(meter: str, text: str) -> bool:
    if meter not in EXACT_METERS:
        return text.isascii() and text.isdigit()
    try:
        amount = Decimal(text)
    except ArithmeticError:
        return False
    return amount.is_finite() and amount >= 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard limits of one task. `None` means without that limit; `writes` names a number per external system.

    `tokens` count prompt and answer together, `input_tokens` and `output_tokens` each by itself; `messages` are the asks of the workflow;
    `seconds` are wall-clock from acceptance, `working_seconds` the same without those in which all of the task waits for a human; `usd` is
    exact decimal money (give a string, not a float).

    What a model call holds for its input is an upper bound: the bytes of its request. With `estimate="learned"` it is what earlier calls
    of the model came to, and a margin: more calls fit beside each other, and limits on tokens and money are soft by one call (of each
    branch that calls at the same time), those of its scopes too.
    """

    tokens: int | None = 100_000
    steps: int | None = 100
    seconds: float | None = 600
    usd: Decimal | str | None = None
    writes: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    messages: int | None = None
    working_seconds: float | None = None
    estimate: Estimate = BOUND

    def __post_init__(self) -> None:
        if self.estimate not in (BOUND, LEARNED):
            remedy = f'Write estimate="{LEARNED}", or leave it out.'
            raise BadDeclaration(what=f"Budget(estimate={self.estimate!r})", problem="there is no such estimate", remedy=remedy)
        if isinstance(self.usd, float):
            raise BadDeclaration(what="Budget(usd=...)", problem="a float is not exact money", remedy='Write usd="0.50".')
        try:
            limits = self.limits()
        except ArithmeticError:
            raise BadDeclaration(what=f"Budget(usd={self.usd!r})", problem="that is no number", remedy='Write usd="0.50".') from None
        for meter, amount in limits.items():
            # A NaN compares with nothing: whether it is a number comes first.
            if not Decimal(amount).is_finite() or amount < 0:
                raise BadDeclaration(what=f"Budget {meter}={amount}", problem="a limit is zero or more", remedy="Use None for no limit.")
            if not is_sane(meter, amount):
                problem = f"the most that {meter} can be is {_most(meter)}"
                raise BadDeclaration(what=f"Budget {meter}={amount}", problem=problem, remedy="Use None for no limit.")

    def limits(self) -> dict[str, Amount]:
        """The limits by meter, without those that are not set."""
        limits: dict[str, Amount] = {}
        for meter in METERS:
            if (value := getattr(self, meter)) is not None:
                limits[meter] = parse_amount(meter, value)
        limits.update({writes_meter(system): int(number) for system, number in self.writes.items()})
        return limits


def lowered(declared: Amounts, asked: Amounts) -> dict[str, Amount]:
    """The declared limits with those that `asked` lowers; `BudgetRaised` where it would raise one."""
    for meter, amount in asked.items():
        allowed = declared.get(meter)
        if allowed is not None and amount > allowed:
            raise BudgetRaised(limit=meter, allowed=str(allowed), asked=str(amount))
    return {**declared, **asked}


_PLAIN = Budget()


def named_limits(budget: Budget) -> dict[str, Amount]:
    """The limits that a budget names itself: a submit that lowers one says nothing about the others."""
    if budget.estimate != BOUND:
        remedy = "Declare it in the workflow's budget."
        raise BadDeclaration(what=f"Budget(estimate={budget.estimate!r})", problem="a submit only lowers limits", remedy=remedy)
    plain = _PLAIN.limits()
    return {meter: amount for meter, amount in budget.limits().items() if plain.get(meter) != amount}
