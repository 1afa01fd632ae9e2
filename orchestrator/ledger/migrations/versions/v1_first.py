"""Version 1: entries that can be neither changed nor deleted, the epoch, and the rows of tasks, inbox, contracts and apps."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BYTES = sa.LargeBinary()

STAY_IN_SQLITE = (
    "CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END",
    "CREATE TRIGGER entries_keep BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries never change'); END",
)
STAY_IN_POSTGRES = (
    "CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'entries are never changed or deleted'; END $$",
    "CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION entries_stay()",
    "ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_stay",
)


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    _entries(on_sqlite)
    _tasks()
    _inbox()
    _table("contracts", _key("contract"), _key("version"), _big("seq"), _text("schema"), _text("by"))
    _table("apps", _key("app"), _key("version"), _big("seq"), _text("spec"), _text("by"), _big("at"))


def _entries(on_sqlite: bool) -> None:
    _table("epoch", _big("epoch"))
    op.execute("INSERT INTO epoch VALUES (0)")
    number = sa.Column("seq", BIG, primary_key=True, autoincrement=False)
    _table("entries", number, _big("epoch"), _big("at"), _text("task"), _text("kind"), _bytes("data"), _bytes("hash"))
    # An index of SQLite ends in the row's number anyway.
    op.create_index("entries_of_task", "entries", ["task"] if on_sqlite else ["task", "seq"])
    for statement in STAY_IN_SQLITE if on_sqlite else STAY_IN_POSTGRES:
        op.execute(statement)


def _tasks() -> None:
    texts = (_text("type"), _text("state"), _text("outcome"), _text("reason"))
    _table("tasks", _key("task"), _big("seq"), *texts, _big("accepted_at"), sa.Column("ended_at", BIG))
    op.create_index("tasks_by_seq", "tasks", ["seq"])
    live = sa.text("outcome = ''")
    op.create_index("tasks_live", "tasks", ["seq"], sqlite_where=live, postgresql_where=live)


def _inbox() -> None:
    asked = (_text("task"), _text("kind"), _text("to"), _text("text"), _text("details"), _big("n"), _text("dispatch"))
    times = (_big("asked_at"), _big("expires"))
    decided = (_text("decision"), _text("by"), _text("note"), sa.Column("decided_at", BIG))
    _table("inbox", _key("item"), _big("seq"), *asked, *times, *decided)
    unanswered = sa.text("decision = ''")
    op.create_index("inbox_open", "inbox", ["task"], sqlite_where=unanswered, postgresql_where=unanswered)


def _table(name: str, *columns: "sa.Column[str] | sa.Column[int] | sa.Column[bytes]") -> None:
    op.create_table(name, *columns, sqlite_strict=True)


def _key(name: str) -> "sa.Column[str]":
    return sa.Column(name, TEXT, primary_key=True)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, TEXT, nullable=False)


def _big(name: str) -> "sa.Column[int]":
    return sa.Column(name, BIG, nullable=False)


def _bytes(name: str) -> "sa.Column[bytes]":
    return sa.Column(name, BYTES, nullable=False)
