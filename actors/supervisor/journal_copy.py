"""The supervisor's journal in a backup of the ledger: without it a restored task would have its budget a second time.

In the backup it is one table beside the ledger's. It is read after the ledger, so it never knows less than that.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from interlock.actors.supervisor import journals
from interlock.schemas.errors import StoreFailed
from interlock.schemas.places import Database, Place
from interlock.schemas.ports import Clock

TABLE = "_journal"

_COLUMNS = "seq, at, kind, task, data, writer"


def save(place: Place, backup: Path) -> int:
    """Copy the journal at `place` into the backup; how many rows it has. None is none."""
    with closing(sqlite3.connect(backup)) as db, db:
        db.execute(f"CREATE TABLE {TABLE} ({_COLUMNS})")
        rows = _from_database(place) if isinstance(place, Database) else _from_file(place)
        return db.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount


def check_free(place: Place) -> None:
    """Before anything is restored: raises `StoreFailed` where a journal is in use at `place`."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import read_all

        taken, elsewhere = bool(read_all(place)), "name another database"
    else:
        taken, elsewhere = place.exists(), "remove it or name another folder"
    if taken:
        raise StoreFailed(path=str(place), problem=f"there is a journal already, of another ledger: {elsewhere}")


def load(backup: Path, place: Place, clock: Clock) -> int:
    """Put the backup's journal at `place`, which has none; how many rows it has."""
    with closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchall()
        rows = db.execute(f"SELECT {_COLUMNS} FROM {TABLE} ORDER BY seq").fetchall() if found else []
    if isinstance(place, Database):
        journals.prepare(place, clock)
        _into_database(rows, place)
    else:
        journals.prepare(place, clock)
        _into_file(rows, place)
    return len(rows)


def _from_file(path: Path) -> Iterable[Sequence[Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(f"SELECT {_COLUMNS} FROM journal ORDER BY seq").fetchall()


def _from_database(where: Database) -> Iterable[Sequence[Any]]:
    from interlock.actors.supervisor.postgres_journal import read_all

    return read_all(where)


def _into_file(rows: Sequence[Sequence[Any]], path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM journal")
        db.executemany(f"INSERT INTO journal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)


def _into_database(rows: Sequence[Sequence[Any]], where: Database) -> None:
    from interlock.actors.supervisor.postgres_journal import write_all

    write_all(where, rows)
