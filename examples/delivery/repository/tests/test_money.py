import unittest

from splitbill.money import Money


class Writing(unittest.TestCase):
    def test_an_amount_is_read_as_it_is_written(self):
        for text in ("0.00", "12.50", "-3.99", "1234.05"):
            self.assertEqual(str(Money.parse(text)), text)
        self.assertEqual(Money.parse(" 12 "), Money(1200))

    def test_what_is_no_amount_is_refused(self):
        for text in ("", "12.5", "1e3", "twelve", "--1"):
            with self.assertRaises(ValueError):
                Money.parse(text)


class Splitting(unittest.TestCase):
    def test_shares_follow_the_weights(self):
        self.assertEqual(Money(1000).split([1, 1]), [Money(500), Money(500)])
        self.assertEqual(Money(900).split([2, 1, 0]), [Money(600), Money(300), Money(0)])

    def test_equal_weights_differ_by_one_cent_at_most(self):
        for cents in (1, 100, 1000, 10001):
            for people in (2, 3, 6, 7):
                shares = [share.cents for share in Money(cents).split([1] * people)]
                self.assertLessEqual(max(shares) - min(shares), 1, f"{cents} cents among {people}: {shares}")

    def test_no_cent_is_lost(self):
        for cents in (1, 100, 1000, 10001, -100):
            for weights in ([1, 1, 1], [1, 2], [3, 1, 3], [1] * 7):
                shares = [share.cents for share in Money(cents).split(weights)]
                self.assertEqual(sum(shares), cents, f"{cents} cents by {weights}: {shares}")


if __name__ == "__main__":
    unittest.main()
