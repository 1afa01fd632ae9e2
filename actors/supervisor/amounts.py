"""Amounts as meters count them: exact, whatever comes, and refused where they cannot be counted.

Whole numbers are added as they are. Money goes through a context that traps what it cannot represent: nothing is ever rounded.
"""

from decimal import ROUND_FLOOR, Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext

from interlock.schemas.budget import Amount, Amounts, parse_amounts
from interlock.schemas.errors import BudgetExceeded, Refused
from interlock.schemas.ports import Reservation

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
# Within these, sums stay exact and whole numbers stay in the journal's 64 bits.
_MOST, _MOST_WHOLE, _FINEST = Decimal(10) ** 40, 2**53, -80
_GRAIN, _FLOOR = Decimal(1).scaleb(_FINEST), Context(prec=200, rounding=ROUND_FLOOR, traps=[InvalidOperation])


def exact(amounts: Amounts) -> dict[str, Amount]:
    """The amounts, exact. Raises `Refused` for what no meter can count."""
    parsed = parse_amounts(amounts)
    for meter, amount in parsed.items():
        if not _is_countable(amount):
            raise Refused(detail=f"{str(amount)[:60]} {meter} cannot be counted: an amount is a number of zero or more, within reason.")
    return parsed


def bounded(limits: Amounts) -> dict[str, Amount]:
    """Limits as meters can hold effects against them: one beyond all that can be counted is the most that can."""
    parsed = parse_amounts(limits)
    if all(map(_is_countable, parsed.values())):
        return parsed
    found: dict[str, Amount] = {}
    for meter, limit in parsed.items():
        if isinstance(limit, int):
            found[meter] = min(limit, _MOST_WHOLE)
        else:
            with localcontext(_FLOOR):
                found[meter] = min(limit, _MOST).quantize(_GRAIN) if not _is_countable(limit) else limit
    return exact(found)


def _is_countable(amount: Amount) -> bool:
    if isinstance(amount, int):
        return 0 <= amount <= _MOST_WHOLE
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= _FINEST and 0 <= amount <= _MOST


def plus(one: Amount, other: Amount) -> Amount:
    return one + other if type(one) is int and type(other) is int else _EXACT.add(one, other)


def minus(one: Amount, other: Amount) -> Amount:
    return one - other if type(one) is int and type(other) is int else _EXACT.subtract(one, other)


def nears(limit: Amount, used: Amount, amount: Amount) -> bool:
    """Whether by this amount four fifths of a limit are used, and were not before; one that is used up at once has nothing to warn of."""
    return bool(limit and amount) and limit > used and used * 5 >= limit * 4 > minus(used, amount) * 5


def times(amount: Amount, units: int) -> Amount:
    return amount * units if type(amount) is int else _EXACT.multiply(amount, units)


def add(to: dict[str, Amount], amounts: Amounts) -> None:
    for meter, amount in amounts.items():
        to[meter] = plus(to.get(meter, 0), amount)


def take(away: dict[str, Amount], amounts: Amounts) -> None:
    for meter, amount in amounts.items():
        away[meter] = minus(away.get(meter, 0), amount)


def worst(base: Amounts, unit: Amounts, units: int) -> dict[str, Amount]:
    """What `base` and so many units come to."""
    total = dict(base)
    for meter, each in unit.items():
        total[meter] = plus(base.get(meter, 0), times(each, units))
    return total


def fit(
    limits: Amounts, used: Amounts, reserved: Amounts, asked: Reservation, base: Amounts, unit: Amounts, units: int
) -> tuple[int, BudgetExceeded | None]:
    """How many of `units` fit under every limit; the error of the first meter where not even the least does."""
    for meter, limit in limits.items():
        each, first = unit.get(meter, 0), base.get(meter, 0)
        if not each and not first and meter not in used:
            continue
        left = minus(minus(limit, used.get(meter, 0)), reserved.get(meter, 0))
        least = plus(first, times(each, asked.least))
        if left < least:
            facts = {"allowed": limit, "used": used.get(meter, 0), "reserved": reserved.get(meter, 0), "asked": least}
            return 0, BudgetExceeded(limit=meter, **{name: str(amount) for name, amount in facts.items()})
        if each:
            units = min(units, int(minus(left, first) // each))
    return units, None
