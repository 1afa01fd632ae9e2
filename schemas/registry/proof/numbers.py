"""Is there a number between bounds that is a multiple of some numbers and not of others? Exactly, in fractions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, gcd, lcm

TRIED = 4_000


class Undecided(Exception):
    """There are too many to look at, and no rule says it."""


@dataclass
class Numbers:
    """What is asked of one number."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    high_open: bool = False
    step: Fraction | None = None
    """It is a multiple of this."""
    off: list[Fraction] = field(default_factory=list)
    """It is a multiple of none of these."""
    barred: set[Fraction] = field(default_factory=set)

    def at_least(self, bound: Fraction, is_open: bool) -> None:
        if self.low is None or (bound, is_open) > (self.low, self.low_open):
            self.low, self.low_open = bound, is_open

    def at_most(self, bound: Fraction, is_open: bool) -> None:
        if self.high is None or (-bound, is_open) > (-self.high, self.high_open):
            self.high, self.high_open = bound, is_open

    def multiple(self, of: Fraction) -> None:
        self.step = of if self.step is None else _common(self.step, of)

    def find(self) -> Fraction | None:
        """One such number, a simple one where that is easy; `None` where there is none. `Undecided` where it is not known."""
        if self.low is not None and self.high is not None:
            if self.low > self.high or (self.low == self.high and (self.low_open or self.high_open)):
                return None
            if self.low == self.high:
                return self.low if self._fits(self.low) else None
        if self.step is None:
            return next(filter(self._fits, self._between()), None) or self._zero_or_undecided()
        if any((self.step / other).denominator == 1 for other in self.off):
            return None
        return self._among_multiples(self.step)

    def _fits(self, number: Fraction) -> bool:
        return (
            number not in self.barred
            and (self.low is None or number > self.low or (number == self.low and not self.low_open))
            and (self.high is None or number < self.high or (number == self.high and not self.high_open))
            and (self.step is None or (number / self.step).denominator == 1)
            and all((number / other).denominator != 1 for other in self.off)
        )

    def _zero_or_undecided(self) -> Fraction:
        if self._fits(Fraction(0)):
            return Fraction(0)
        raise Undecided

    def _between(self) -> Iterator[Fraction]:
        """Likely ones of a stretch that has more numbers than can be barred."""
        low, high = self.low, self.high
        yield from (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2))
        if low is not None:
            yield from (low, Fraction(floor(low) + 1), low + 1, low + Fraction(1, 2))
        if high is not None:
            yield from (high, Fraction(ceil(high) - 1), high - 1, high - Fraction(1, 2))
        if low is None:
            low = (high or Fraction(0)) - 16
        if high is None:
            high = low + 16
        for parts in (2, 3, 4, 5, 7, 10, 16, 1000):
            yield from (low + (high - low) * Fraction(part, parts) for part in range(1, min(parts, 16)))

    def _among_multiples(self, step: Fraction) -> Fraction | None:
        first = None if self.low is None else ceil(self.low / step)
        last = None if self.high is None else floor(self.high / step)
        if first is not None and last is not None:
            every = range(first, last + 1)
        elif first is not None:
            every = range(first, first + TRIED) if first > 0 else range(TRIED)
        elif last is not None:
            every = range(last, last - TRIED, -1) if last < 0 else range(0, -TRIED, -1)
        else:
            every = range(TRIED)
        found = next(filter(self._fits, (step * at for at in every[:TRIED])), None)
        if found is not None:
            return found
        if first is not None and last is not None and len(every) <= TRIED:
            return None
        # Where multiples go on for ever there always is one; where they are many it may be.
        raise Undecided


def _common(one: Fraction, other: Fraction) -> Fraction:
    """The least number that is a multiple of both."""
    return Fraction(lcm(one.numerator, other.numerator), gcd(one.denominator, other.denominator))
