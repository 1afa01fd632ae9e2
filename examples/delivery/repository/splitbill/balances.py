"""From expenses to balances, from balances to payments that settle them."""

from dataclasses import dataclass

from splitbill.expenses import Expense
from splitbill.money import Money


@dataclass(frozen=True)
class Payment:
    """``debtor`` gives ``amount`` to ``creditor``."""

    debtor: str
    creditor: str
    amount: Money

    def __str__(self) -> str:
        return f"{self.debtor} pays {self.creditor} {self.amount}"


def balances(expenses: list[Expense]) -> dict[str, Money]:
    """Per person what the others owe them; negative for who owes."""
    totals: dict[str, Money] = {}
    for expense in expenses:
        totals[expense.payer] = totals.get(expense.payer, Money()) + expense.amount
        for person, share in expense.shares().items():
            totals[person] = totals.get(person, Money()) - share
    return totals


def settle(totals: dict[str, Money]) -> list[Payment]:
    """Few payments after which every balance is zero: the largest debt goes to the largest credit."""
    open_ = {person: amount for person, amount in totals.items() if amount.cents}
    payments = []
    while len(open_) > 1:
        debtor = min(open_, key=lambda person: (open_[person], person))
        creditor = max(open_, key=lambda person: (open_[person], person))
        amount = min(-open_[debtor], open_[creditor])
        payments.append(Payment(debtor, creditor, amount))
        for person, change in ((debtor, amount), (creditor, -amount)):
            open_[person] += change
            if not open_[person].cents:
                del open_[person]
    return payments
