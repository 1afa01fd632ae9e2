"""The ledger at a place: a file or a database, behind the same port. Nobody else has to know which it is."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.reader import Reader, SqlReader, is_current
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.sqlite_file import make_file
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError, LedgerInUse, NoLedger
from interlock.schemas.places import Database, Place
from interlock.schemas.ports import Clock

_GONE_SECONDS, _LOOK_SECONDS = 5.0, 0.1


def prepare(place: Place) -> None:
    """Where a bus is started: make the ledger if there is none, else bring its layout up to date. Raises `LedgerInUse` where a bus writes
    to this database, `NoLedger` or `StoreFailed` where it cannot be used."""
    if isinstance(place, Database):
        _refuse_in_use(place)
        _prepare_database(place)
    elif not place.exists():
        make_file(place)
    elif not is_current(place):
        from interlock.orchestrator.ledger.migrations import migrate_file

        migrate_file(place)


def open_ledger(
    place: Place,
    clock: Clock,
    *,
    on_failure: Callable[[InterlockError], None],
    on_durable: Callable[[Entry], None] | None = None,
    keeper: Keeper | None = None,
) -> Writer:
    """The ledger that is there; `NoLedger` where none is. `keeper` signs checkpoints of it."""
    if isinstance(place, Database):
        from interlock.orchestrator.ledger.postgres import PostgresLedger

        return PostgresLedger(place, clock, on_failure=on_failure, on_durable=on_durable, keeper=keeper)
    return SqliteLedger.open(place, clock, on_failure=on_failure, on_durable=on_durable, keeper=keeper)


def open_reader(place: Place) -> SqlReader:
    """Reads of the ledger that is there; `NoLedger` where none is."""
    if isinstance(place, Database):
        from interlock.orchestrator.ledger.postgres import DatabaseReader

        return DatabaseReader(place)
    return Reader(Path(place))


def is_empty(place: Place) -> bool:
    """Whether the ledger that is there has no entry."""
    with closing(open_reader(place)) as reader:
        return not reader.stored(limit=1)


def _prepare_database(where: Database) -> None:
    try:
        open_reader(where).close()
    except NoLedger:  # none, an older one, or one that cannot be worked with: the migration knows
        from interlock.orchestrator.ledger.migrations import migrate_database  # SQLAlchemy is loaded only where it is needed

        migrate_database(where)


def _refuse_in_use(where: Database) -> None:
    """A bus that was stopped a moment ago may still be listed for a moment."""
    from interlock.orchestrator.ledger.postgres_store import SCHEMA, WRITER, unreachable
    from interlock.tools import postgres

    try:
        db = postgres.connect(where, "interlock start", SCHEMA)
    except postgres.LOST as problem:
        raise unreachable(where, problem) from problem
    try:
        deadline = time.monotonic() + _GONE_SECONDS
        while postgres.sessions(db, f"{WRITER}%"):
            if time.monotonic() > deadline:
                raise LedgerInUse(path=str(where))
            time.sleep(_LOOK_SECONDS)
    finally:
        db.close()
