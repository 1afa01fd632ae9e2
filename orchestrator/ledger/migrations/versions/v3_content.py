"""Version 3: the keys of tasks, and what is kept by name beside the entries. Entries from before stay as they were written.

Rows say no longer what was said but which entry says it, so that nothing of an erased task is left in them.
"""

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


REASONS = """
UPDATE tasks SET reason_seq = (
    SELECT min(seq) FROM entries WHERE entries.task = tasks.task AND entries.kind = 'task.ended' AND entries.seq > tasks.seq
) WHERE reason <> ''
"""
NOTES = """
UPDATE inbox SET note_seq = (
    SELECT min(seq) FROM entries
    WHERE entries.task = inbox.task AND entries.kind = 'item.decided' AND entries.seq > inbox.seq AND {names_item}
) WHERE note <> ''
"""
# As text: a PostgreSQL reads no JSON that has a NUL somewhere.
IN_SQLITE = """instr(CAST(data AS TEXT), '"item":"' || inbox.item || '"') > 0"""
IN_POSTGRES = """strpos(convert_from(data, 'UTF8'), '"item":"' || inbox.item || '"') > 0"""
SAID = (("tasks", "reason"), ("inbox", "text"), ("inbox", "details"), ("inbox", "note"), ("deeds", "digest"))


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for table, column in (("tasks", "reason_seq"), ("inbox", "note_seq")):
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {'INTEGER' if on_sqlite else 'BIGINT'} NOT NULL DEFAULT 0")
    op.execute(REASONS)
    op.execute(NOTES.format(names_item=IN_SQLITE if on_sqlite else IN_POSTGRES))
    for table, column in SAID:
        op.execute(f'ALTER TABLE {table} DROP COLUMN "{column}"')
    task, secret = sa.Column("task", TEXT, primary_key=True), sa.Column("secret", BYTES, nullable=False)
    op.create_table("keys", task, secret, sqlite_strict=True)
    owner, name = sa.Column("task", TEXT, primary_key=True), sa.Column("name", BYTES, primary_key=True)
    op.create_table("contents", owner, name, sa.Column("data", BYTES, nullable=False), sqlite_strict=True)
    for statement in (KEEP_IN_SQLITE,) if on_sqlite else KEEP_IN_POSTGRES:
        op.execute(statement)
