"""Shared expenses: who paid what, who owes whom."""
