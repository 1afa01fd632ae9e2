"""Amounts of money in whole cents."""

import re
from dataclasses import dataclass

_AMOUNT = re.compile(r"^(-?)(\d+)(?:\.(\d{2}))?$")


@dataclass(frozen=True, order=True)
class Money:
    """An amount in cents; a debt is negative."""

    cents: int = 0

    @classmethod
    def parse(cls, text: str) -> "Money":
        """The amount written as ``12``, ``12.50`` or ``-3.99``."""
        match = _AMOUNT.match(text.strip())
        if match is None:
            raise ValueError(f"not an amount: {text!r}")
        sign, units, cents = match.groups()
        amount = int(units) * 100 + int(cents or 0)
        return cls(-amount if sign else amount)

    def __str__(self) -> str:
        sign = "-" if self.cents < 0 else ""
        return f"{sign}{abs(self.cents) // 100}.{abs(self.cents) % 100:02d}"

    def __add__(self, other: "Money") -> "Money":
        return Money(self.cents + other.cents)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.cents - other.cents)

    def __neg__(self) -> "Money":
        return Money(-self.cents)

    def split(self, weights: list[int]) -> list["Money"]:
        """Divide the amount in proportion to the weights."""
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise ValueError("weights must not be negative, and one must be positive")
        return [Money(self.cents * weight // total) for weight in weights]
