"""The supervisor's journal at a place: a file or a database. Nobody else has to know which it is."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from interlock.actors.supervisor import spool, sqlite_journal
from interlock.actors.supervisor.journal import Journal, Order
from interlock.actors.supervisor.sqlite_journal import SqliteJournal
from interlock.schemas.errors import OrderNotKept, StoreFailed, StorePaused
from interlock.schemas.places import Database, Place
from interlock.schemas.ports import Clock


class Kept(NamedTuple):
    """The order that stands, and where it is: in the journal, or in a file until that can be written."""

    order: Order
    path: str


def prepare(place: Place, clock: Clock) -> None:
    """Where a bus is started: make the journal if there is none. Nobody else ever makes one. Raises `StoreFailed`."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import make_journal

        make_journal(place)
    elif not place.exists():
        try:
            _make_file(place, clock)
        except (StorePaused, OSError) as problem:  # nothing is there that could go on by itself
            raise StoreFailed(path=str(place), problem=problem.problem if isinstance(problem, StorePaused) else str(problem)) from problem


def _make_file(path: Path, clock: Clock) -> None:
    """It appears under its name complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        SqliteJournal(draft, clock, create=True).close()
        os.link(draft, path)


def open_journal(place: Place, clock: Clock, home: Path) -> Journal:
    """The journal that is there, for the next incarnation; `home` is the bus's. Raises `StoreFailed`, or `StorePaused`: try again."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import PostgresJournal

        return PostgresJournal(place, clock, home / spool.SPOOL)
    return SqliteJournal(place, clock)


def write_order(place: Place, order: Order, home: Path) -> Kept:
    """Put an order where any supervisor finds it, with every actor dead: durable on return. Raises `StoreFailed`, or `OrderNotKept` where
    neither the journal nor a file beside it takes it now."""
    try:
        return Kept(_write_order(place, order), str(place))
    except StorePaused as pause:
        try:
            return Kept(order, str(spool.put(home / spool.SPOOL, order)))
        except OSError as problem:
            raise OrderNotKept(task=order.task, path=pause.path, problem=f"{pause.problem}; {problem}") from problem


def _write_order(place: Place, order: Order) -> Order:
    if isinstance(place, Database):
        from interlock.actors.supervisor import postgres_journal

        return postgres_journal.write_order(place, order)
    return sqlite_journal.write_order(place, order)
