"""Version 6: in a SQLite file nothing takes an entry's place. In a PostgreSQL no column of keys, covers or content is in the statistics.

A server's ANALYZE copies values of a column into its own catalog, where no rewriting of the table reaches them: old covers would stay. So
there all keys get new covers in new tables, and what the catalog still has of the old ones says nothing.
"""

import os
import zlib
from hashlib import sha512
from hmac import digest

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"

COVERS, COVER_BYTES, SECRET_BYTES, PAGE = 4096, 32, 64, 1000

# An INSERT OR REPLACE deletes the row before and asks none of its triggers. The writer gives a piece of content again: it stays as it is.
ONCE_IN_SQLITE = (
    "CREATE TRIGGER entries_once BEFORE INSERT ON entries WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq) "
    "BEGIN SELECT RAISE(ABORT, 'entries never change'); END",
    "CREATE TRIGGER contents_once BEFORE INSERT ON contents "
    "WHEN EXISTS (SELECT 1 FROM contents WHERE task = NEW.task AND name = NEW.name) BEGIN SELECT RAISE(IGNORE); END",
)
LAYOUT = (
    "ALTER TABLE contents ALTER data SET STATISTICS 0",
    "ALTER TABLE covers RENAME TO old_covers",
    "ALTER TABLE old_covers RENAME CONSTRAINT covers_pkey TO old_covers_pkey",
    "CREATE TABLE covers (cover INTEGER NOT NULL PRIMARY KEY, mask BYTEA NOT NULL)",
    "ALTER TABLE covers ALTER mask SET STORAGE PLAIN, ALTER mask SET STATISTICS 0",
    "ALTER TABLE keys RENAME TO old_keys",
    "ALTER TABLE old_keys RENAME CONSTRAINT keys_pkey TO old_keys_pkey",
    "ALTER INDEX keys_by_cover RENAME TO old_keys_by_cover",
    'CREATE TABLE keys (task TEXT COLLATE "C" NOT NULL PRIMARY KEY, secret BYTEA NOT NULL, cover INTEGER NOT NULL)',
    "ALTER TABLE keys ALTER secret SET STATISTICS 0",
    "CREATE INDEX keys_by_cover ON keys (cover)",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in ONCE_IN_SQLITE:
            op.execute(statement)
        return
    for statement in LAYOUT:
        op.execute(statement)
    masks = [os.urandom(COVER_BYTES) for _ in range(COVERS)]
    insert = sa.text("INSERT INTO covers SELECT * FROM unnest(CAST(:covers AS INTEGER[]), CAST(:masks AS BYTEA[]))")
    op.get_bind().execute(insert, {"covers": list(range(COVERS)), "masks": masks})
    _cover_keys_anew(masks)
    op.execute("DROP TABLE old_keys, old_covers")


def _cover_keys_anew(masks: list[bytes]) -> None:
    insert = sa.text("INSERT INTO keys SELECT * FROM unnest(CAST(:tasks AS TEXT[]), CAST(:secrets AS BYTEA[]), CAST(:covers AS INTEGER[]))")
    old = sa.text("SELECT task, secret, mask FROM old_keys JOIN old_covers USING (cover)").execution_options(yield_per=PAGE)
    with op.get_bind().execute(old) as found:
        for page in found.partitions():
            tasks = [task for task, _, _ in page]
            covers = [zlib.crc32(task.encode()) % COVERS for task in tasks]
            secrets = [
                _masked(masks[cover], task, _masked(mask, task, secret)) for cover, (task, secret, mask) in zip(covers, page, strict=True)
            ]
            op.get_bind().execute(insert, {"tasks": tasks, "secrets": secrets, "covers": covers})


def _masked(mask: bytes, task: str, secret: bytes) -> bytes:
    if secret == bytes(SECRET_BYTES):
        return secret
    noise = digest(mask, task.encode(), sha512)
    return (int.from_bytes(secret) ^ int.from_bytes(noise)).to_bytes(SECRET_BYTES)
