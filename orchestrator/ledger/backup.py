"""Backups of a ledger: one file in one format, whichever database it comes from and whichever it goes to.

A backup is a ledger of its own in a SQLite file, as of one moment, verified before it has its name: every reader can read it. Restoring
copies it, row for row, into a ledger that is empty, in one transaction, and verifies it there: a crash in the middle leaves it empty.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from interlock.orchestrator.ledger.cipher import KeyRow
from interlock.orchestrator.ledger.reader import Reader, is_current, open_file
from interlock.orchestrator.ledger.sqlite_file import make_file, place_file
from interlock.orchestrator.ledger.stores import is_empty, open_reader, prepare
from interlock.schemas.errors import LedgerExists, StoreFailed
from interlock.schemas.places import Database, Place

_PAGE = 1000
_OWN = "alembic_version"


class Copied(NamedTuple):
    """What a backup or a restore came to."""

    entries: int
    head: bytes


@contextmanager
def new_backup(place: Place, file: Path) -> Iterator[tuple[Path, Copied]]:
    """Write the ledger at `place` into a draft; it is named `file` when the caller, who may add tables of its own, is done.

    Works beside a running bus. Raises `LedgerExists` where there is such a file, `LedgerDamaged` where the ledger is not intact.
    """
    if file.exists():
        raise LedgerExists(path=str(file))
    with _draft(file.parent, file.name) as draft:
        if isinstance(place, Database):
            _from_database(place, draft)
        else:
            _from_file(place, draft)
        yield draft, _verified(draft)
        _settle(draft)
        place_file(draft, file)


def restore(file: Path, place: Place, first: Callable[[], None] = lambda: None) -> Copied:
    """Copy a backup into the ledger at `place`, which is made if there is none. `first` does what comes before its first entry, or refuses.

    Raises `LedgerExists` where one has entries, `LedgerInUse` where a bus writes to it, `LedgerDamaged` where the backup is not intact.
    """
    with _draft(None, file.name) as draft:
        _from_file(file, draft)
        if not is_current(draft):
            from interlock.orchestrator.ledger.migrations import migrate_file

            migrate_file(draft)
        copied = _verified(draft)
        prepare(place)
        if not is_empty(place):
            raise LedgerExists(path=str(place))
        first()
        with closing(open_file(draft, "ro")) as source:
            _into_database(source, place) if isinstance(place, Database) else _into_file(source, place)
    with closing(open_reader(place)) as reader:
        if (found := reader.verify()) != copied.entries:
            raise StoreFailed(path=str(place), problem=f"it has {found} entries after the restore of {copied.entries}")
    return copied


# --- reading -----------------------------------------------------------------------------------------------------------------


def _from_file(path: Path, draft: Path) -> None:
    """SQLite's own online backup: the moment at which it ends, however much is written meanwhile."""
    with _store_errors(path), closing(open_file(path, "ro", check=False)) as source, closing(sqlite3.connect(draft)) as target:
        source.backup(target, pages=_PAGE)


def _from_database(where: Database, draft: Path) -> None:
    from interlock.orchestrator.ledger.postgres import DatabaseReader

    make_file(draft)
    with (
        closing(DatabaseReader(where)) as reader,
        closing(reader.moment()) as source,
        closing(sqlite3.connect(draft, isolation_level=None)) as target,
    ):
        target.execute("BEGIN")
        for table in _tables(target):
            target.execute(f"DELETE FROM {table}") if table == "epoch" else None
            for columns, rows in source.pages(table, _PAGE):
                target.executemany(_insert_into(table, columns, "?"), rows)
        target.execute("COMMIT")


def _verified(draft: Path) -> Copied:
    with closing(Reader(draft)) as reader:
        entries = reader.verify()
        last = reader.stored(after=entries - 1, limit=1) if entries else []
    return Copied(entries, last[0].hash if last else b"")


# --- writing -----------------------------------------------------------------------------------------------------------------


def _into_file(source: sqlite3.Connection, path: Path) -> None:
    with _store_errors(path), closing(open_file(path, "rw")) as target:
        target.execute("PRAGMA synchronous = FULL")
        target.execute("BEGIN IMMEDIATE")
        _check_empty(target.execute("SELECT 1 FROM entries LIMIT 1").fetchall(), path)
        target.execute("DELETE FROM epoch")
        for table in _tables(target):
            for columns, rows in _pages(source, table):
                target.executemany(_insert_into(table, columns, "?"), rows)
        target.execute("COMMIT")


def _into_database(source: sqlite3.Connection, where: Database) -> None:
    import psycopg

    from interlock.orchestrator.ledger.covers import CoveredRow, covered
    from interlock.orchestrator.ledger.postgres_store import covers_of, open_database
    from interlock.tools import postgres

    try:
        with closing(open_database(where, "interlock restore")) as target, target.transaction():
            target.execute("LOCK TABLE epoch")  # a bus that starts now waits, and finds a ledger
            _check_empty(target.execute("SELECT 1 FROM entries LIMIT 1").fetchall(), where)
            target.execute("DELETE FROM epoch")
            covers = covers_of(target)
            for table in _tables(source):
                for columns, rows in _pages(source, table):
                    if table == "keys":
                        columns, rows = CoveredRow._fields, covered((KeyRow(*row) for row in rows), covers)
                    target.cursor().executemany(_insert_into(table, columns, "%s").encode(), rows)
    except psycopg.Error as problem:
        raise StoreFailed(path=str(where), problem=postgres.sentence(problem)) from problem


def _check_empty(found: list[Any], place: Place) -> None:
    if found:
        raise LedgerExists(path=str(place))


def _tables(db: sqlite3.Connection) -> list[str]:
    """Every table of the layout. What somebody else has put beside it begins with an underscore."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    return [name for (name,) in found if not name.startswith(("sqlite_", "_")) and name != _OWN]


def _pages(source: sqlite3.Connection, table: str) -> Iterator[tuple[Sequence[str], list[Any]]]:
    cursor = source.execute(f'SELECT * FROM "{table}"')
    columns = [one[0] for one in cursor.description]
    while rows := cursor.fetchmany(_PAGE):
        yield columns, rows


def _insert_into(table: str, columns: Sequence[str], mark: str) -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join([mark] * len(columns))})"


@contextmanager
def _draft(folder: Path | None, name: str) -> Iterator[Path]:
    """A file for the work, gone at the end with whatever SQLite lays beside it."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as made:
            yield Path(made) / "ledger.db"
    except OSError as problem:
        raise StoreFailed(path=str(folder or tempfile.gettempdir()), problem=str(problem)) from problem


def _settle(draft: Path) -> None:
    """All in one file, without a log beside it, on the disk, for its owner's eyes."""
    with _store_errors(draft), closing(sqlite3.connect(draft)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    draft.chmod(0o600)
    handle = os.open(draft, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem
