"""One payment that several people share."""

from dataclasses import dataclass

from splitbill.money import Money


@dataclass(frozen=True)
class Expense:
    """``payer`` paid ``amount`` for all in ``weights``; a weight of 2 counts double, as for a couple."""

    payer: str
    amount: Money
    weights: dict[str, int]

    def shares(self) -> dict[str, Money]:
        """What each person owes of this expense."""
        people = sorted(self.weights)
        parts = self.amount.split([self.weights[person] for person in people])
        return dict(zip(people, parts))
