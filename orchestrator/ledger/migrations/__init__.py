"""Migrations: one history of the ledger's layout, for both databases, run by Alembic in one transaction.

They run where a bus is started (`interlock up`), never where an actor is: a restart finds the layout that it knows, or refuses. Nothing
else loads SQLAlchemy. A step that was released never changes; a new layout is a new file in `versions` and the next `SCHEMA_VERSION`.
"""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from interlock.orchestrator.ledger.postgres_store import SCHEMA, unreachable
from interlock.orchestrator.ledger.reader import APPLICATION_ID, SCHEMA_VERSION, check_layout
from interlock.schemas.errors import StoreFailed
from interlock.schemas.places import Database
from interlock.tools import postgres

_SCRIPTS = ScriptDirectory(str(Path(__file__).parent))


def migrate_file(path: Path) -> None:
    """Bring the SQLite file to the layout of this code; an empty file becomes a ledger. Raises `StoreFailed` or `NoLedger`."""
    engine = sa.create_engine("sqlite://", creator=lambda: _connect(path), poolclass=sa.NullPool)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.connect() as connection, connection.begin():
            ((version,),) = connection.exec_driver_sql("PRAGMA user_version").fetchall()
            if version > SCHEMA_VERSION:
                check_layout(version, str(path))
            if version and not sa.inspect(connection).has_table("alembic_version"):
                _adopt(connection, version)
            upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem


def migrate_database(where: Database) -> None:
    """Bring the ledger in the database to the layout of this code, or make one there. Raises `StoreFailed` or `NoLedger`."""
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: _in_transactions(where), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            seen = MigrationContext.configure(connection).get_current_revision()
            if seen is not None and int(seen) > SCHEMA_VERSION:
                check_layout(int(seen), str(where))
            upgrade(connection)
    except postgres.LOST as problem:
        raise unreachable(where, problem) from problem
    except sa.exc.SQLAlchemyError as problem:
        raise StoreFailed(path=str(where), problem=postgres.sentence(problem)) from problem


def upgrade(connection: sa.Connection) -> None:
    """Run the steps that this database has not seen, within the caller's transaction."""

    def steps(seen: Any, _: MigrationContext) -> Any:
        return _SCRIPTS._upgrade_revs(str(SCHEMA_VERSION), seen)

    with EnvironmentContext(Config(), _SCRIPTS, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()


def _adopt(connection: sa.Connection, version: int) -> None:
    """A file from before there were migrations: it has the layout that its header says."""
    MigrationContext.configure(connection).stamp(_SCRIPTS, str(version))


def _connect(path: Path) -> sqlite3.Connection:
    with ExitStack() as failed:
        db = failed.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
        db.execute("PRAGMA journal_mode = WAL")
        failed.pop_all()
        return db


def _in_transactions(where: Database) -> postgres.Connection:
    db = postgres.connect(where, "interlock migration", SCHEMA)
    db.autocommit = False
    return db
