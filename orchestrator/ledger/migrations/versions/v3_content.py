"""Version 3: the keys of tasks, and what is kept by name beside the entries. Entries from before stay as they were written."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BYTES = sa.LargeBinary()

KEEP_IN_SQLITE = "CREATE TRIGGER contents_keep BEFORE UPDATE ON contents BEGIN SELECT RAISE(ABORT, 'contents never change'); END"
KEEP_IN_POSTGRES = (
    "CREATE FUNCTION contents_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'contents never change'; END $$",
    "CREATE TRIGGER contents_keep BEFORE UPDATE ON contents FOR EACH STATEMENT EXECUTE FUNCTION contents_keep()",
    "ALTER TABLE contents ENABLE ALWAYS TRIGGER contents_keep",
)


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    task, secret = sa.Column("task", TEXT, primary_key=True), sa.Column("secret", BYTES, nullable=False)
    op.create_table("keys", task, secret, sqlite_strict=True)
    owner, name = sa.Column("task", TEXT, primary_key=True), sa.Column("name", BYTES, primary_key=True)
    op.create_table("contents", owner, name, sa.Column("data", BYTES, nullable=False), sqlite_strict=True)
    for statement in (KEEP_IN_SQLITE,) if on_sqlite else KEEP_IN_POSTGRES:
        op.execute(statement)
