import unittest

from splitbill.money import Money


class Separators(unittest.TestCase):
    """Bank statements write thousands with a comma."""

    def test_thousands_may_be_separated(self):
        self.assertEqual(Money.parse("1,234.50"), Money(123450))
        self.assertEqual(Money.parse("-1,000,000"), Money(-100000000))

    def test_a_separator_elsewhere_is_refused(self):
        for text in ("1,23.00", ",100", "12,3456", "1,,000"):
            with self.assertRaises(ValueError):
                Money.parse(text)


if __name__ == "__main__":
    unittest.main()
