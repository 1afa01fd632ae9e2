import unittest

from splitbill.balances import Payment, balances, settle
from splitbill.expenses import Expense
from splitbill.money import Money


class Trip(unittest.TestCase):
    def setUp(self):
        self.totals = balances(
            [
                Expense("Ana", Money.parse("96.00"), {"Ana": 1, "Ben": 1, "Cleo": 1}),
                Expense("Ben", Money.parse("30.00"), {"Ana": 2, "Ben": 1}),
            ]
        )

    def test_balances_are_what_was_paid_less_what_was_used(self):
        self.assertEqual(self.totals, {"Ana": Money(4400), "Ben": Money(-1200), "Cleo": Money(-3200)})

    def test_payments_settle_every_balance(self):
        expected = [Payment("Cleo", "Ana", Money(3200)), Payment("Ben", "Ana", Money(1200))]
        self.assertEqual(settle(self.totals), expected)


if __name__ == "__main__":
    unittest.main()
