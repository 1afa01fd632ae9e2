"""What SQLite's refusals mean: some pass by themselves, and whoever waits loses nothing; after all others nothing may be written."""

import sqlite3

_PASSING = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM))
"""The disk is full, or does not work now; somebody else writes; no file or no memory is to be had."""

_PRIMARY = 0xFF


def may_pass(problem: sqlite3.Error) -> bool:
    """Whether the same statements may succeed later; a transaction that they were in was rolled back, or is to be."""
    return getattr(problem, "sqlite_errorcode", 0) & _PRIMARY in _PASSING
