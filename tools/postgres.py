"""The one way to a PostgreSQL: every connection of ours is durable, notices a dead server soon, and says whose it is.

A commit on it is on the server's disk when it returns, whatever the server's defaults are; a server that runs without `fsync` is refused,
for there nothing would hold. Connections commit each statement by themselves unless a transaction is begun.
"""

from typing import Any

import psycopg

from interlock.schemas.errors import NoLedger
from interlock.schemas.places import Database

Connection = psycopg.Connection[tuple[Any, ...]]

LOST = (psycopg.OperationalError, psycopg.InterfaceError)
"""What a statement raises where the server has gone or cannot work now: it may work again later."""

_ALIVE: dict[str, Any] = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "target_session_attrs": "read-write",
}
# The keepalives are the server's own: a client whose machine has gone does not keep its locks for hours.
_BEGIN = """
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
    set_config('idle_in_transaction_session_timeout', '0', false), set_config('tcp_keepalives_idle', '10', false),
    set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false),
    set_config('synchronous_commit', CASE WHEN now.commit IN ('off', 'local') THEN 'on' ELSE now.commit END, false),
    set_config('search_path', %s, false), current_setting('fsync'), current_setting('server_encoding')
FROM (SELECT current_setting('synchronous_commit') AS commit) AS now
"""

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s AND pid <> pg_backend_pid()"


def connect(where: Database, name: str, schema: str) -> Connection:
    """A connection that works in `schema`; the server lists it under `name`. Raises one of `LOST`, or `NoLedger`."""
    db = psycopg.connect(where.url, autocommit=True, prepare_threshold=0, application_name=name, **_ALIVE)
    try:
        *_, fsync, encoding = db.execute(_BEGIN, (schema,)).fetchall()[0]
        if fsync != "on":
            raise NoLedger(path=str(where), problem="the server runs with fsync=off, so it loses what it confirmed", remedy="Set fsync=on.")
        if encoding != "UTF8":
            problem = f"its encoding is {encoding}, which does not hold every text"
            raise NoLedger(path=str(where), problem=problem, remedy="Make a database with ENCODING 'UTF8' and name that.")
    except BaseException:
        db.close()
        raise
    return db


def sentence(problem: BaseException) -> str:
    """What the server or the driver said, on one line."""
    return " ".join(str(problem).split()) or type(problem).__name__


def end_sessions(db: Connection, named: str) -> None:
    """End all other connections to this database with a name like that: lost ones, those of a stopped process. Their locks go."""
    db.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}", (named,))


def sessions(db: Connection, named: str) -> int:
    """How many other connections to this database have a name like that."""
    ((count,),) = db.execute(f"SELECT count(*) {_OTHERS}", (named,)).fetchall()
    return int(count)
