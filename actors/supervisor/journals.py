"""The supervisor's journal at a place: a file or a database. Nobody else has to know which it is."""

from pathlib import Path

from interlock.actors.supervisor.journal import Journal, Order, SqliteJournal
from interlock.actors.supervisor.journal import write_order as write_to_file
from interlock.schemas.places import Database, Place
from interlock.schemas.ports import Clock

SPOOL = "orders"
"""The folder, in the bus's own, of orders that were given while the database was away."""


def prepare(place: Place, clock: Clock) -> None:
    """Where a bus is started: make the journal if there is none. Nobody else ever makes one. Raises `StoreFailed`."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import make_journal

        make_journal(place)
    elif not place.exists():
        SqliteJournal(place, clock, create=True).close()


def open_journal(place: Place, clock: Clock, home: Path) -> Journal:
    """The journal that is there, for the next incarnation; `home` is the bus's folder. Raises `StoreFailed`."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import PostgresJournal

        return PostgresJournal(place, clock, home / SPOOL)
    return SqliteJournal(place, clock)


def write_order(place: Place, order: Order, home: Path) -> Order:
    """Put an order where any supervisor finds it, with every actor dead: durable on return. Returns the order that stands."""
    if isinstance(place, Database):
        from interlock.actors.supervisor.postgres_journal import write_order as write_to_database

        return write_to_database(place, order, home / SPOOL)
    return write_to_file(place, order)
