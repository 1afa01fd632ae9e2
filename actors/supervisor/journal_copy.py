"""The supervisor's journal in a backup of the ledger: without it a restored task would have its budget a second time.

In the backup it is one table beside the ledger's. It is read after the ledger, so it never knows less than that. Orders that wait in files
for a supervisor who takes them over are among its rows: whoever was promised that a task is killed is promised that of its backup too.
"""

import os
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from interlock.actors.supervisor import journals, spool
from interlock.schemas.canonical import encode
from interlock.schemas.errors import StoreFailed
from interlock.schemas.places import Database, Place
from interlock.schemas.ports import Clock

TABLE = "_journal"

_COLUMNS = "seq, at, kind, task, data, writer"


def save(place: Place, home: Path, backup: Path) -> int:
    """Copy the journal at `place`, and what waits in the bus's folder to be written there, into the backup; how many rows that is. None is
    none."""
    waiting = spool.waiting(home / spool.SPOOL).values()  # before the journal: whatever is taken over meanwhile is found there
    rows = list(_from_database(place) if isinstance(place, Database) else _from_file(place))
    ordered, last = {task for _, _, kind, task, *_ in rows if kind == "order"}, max((row[0] for row in rows), default=0)
    late = [order for order in waiting if order.task not in ordered]
    rows += [(last + n, order.requested, "order", order.task, encode(order._asdict()), 0) for n, order in enumerate(late, 1)]
    with closing(sqlite3.connect(backup)) as db, db:
        db.execute(f"CREATE TABLE {TABLE} ({_COLUMNS})")
        return db.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount


def rows_in(backup: Path) -> list[Sequence[Any]]:
    """The journal's rows in a backup, in order; none in one that was made without a journal."""
    with closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchall()
        return db.execute(f"SELECT {_COLUMNS} FROM {TABLE} ORDER BY seq").fetchall() if found else []


def load(backup: Path, place: Place, clock: Clock) -> None:
    """Put the backup's journal at `place`, whole or not at all; one that is there already from the same backup stays. Raises `StoreFailed`
    where another one is in use there."""
    rows = rows_in(backup)
    known = _from_database(place) if isinstance(place, Database) else _from_file(place)
    if known and list(map(tuple, known)) != list(map(tuple, rows)):
        elsewhere = "name another database" if isinstance(place, Database) else "remove it or name another folder"
        raise StoreFailed(path=str(place), problem=f"there is a journal already, of another ledger: {elsewhere}")
    if known:
        return
    if isinstance(place, Database):
        journals.prepare(place, clock)
        _into_database(rows, place)
    else:
        _into_file(rows, place, clock)


def _from_file(path: Path) -> Sequence[Sequence[Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(f"SELECT {_COLUMNS} FROM journal ORDER BY seq").fetchall()


def _from_database(where: Database) -> Sequence[Sequence[Any]]:
    from interlock.actors.supervisor.postgres_journal import read_all

    return read_all(where)


def _into_file(rows: Sequence[Sequence[Any]], path: Path, clock: Clock) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        journals.prepare(draft, clock)
        with closing(sqlite3.connect(draft)) as db, db:
            db.execute("DELETE FROM journal")
            db.executemany(f"INSERT INTO journal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        try:
            os.link(draft, path)
        except OSError as problem:
            raise StoreFailed(path=str(path), problem=str(problem)) from problem


def _into_database(rows: Sequence[Sequence[Any]], where: Database) -> None:
    from interlock.actors.supervisor.postgres_journal import write_all

    write_all(where, rows)
