"""Version 4: in a PostgreSQL the secrets of tasks lie under covers; what is left of the table where they were bare is dropped."""

import os
import zlib
from hashlib import sha512
from hmac import digest

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

COVERS, COVER_BYTES, SECRET_BYTES, PAGE = 4096, 32, 64, 1000

LAYOUT = (
    "CREATE TABLE covers (cover INTEGER NOT NULL PRIMARY KEY, mask BYTEA NOT NULL)",
    "ALTER TABLE covers ALTER mask SET STORAGE PLAIN",  # nothing of it lies elsewhere
    "ALTER TABLE keys RENAME TO bare",
    "ALTER TABLE bare RENAME CONSTRAINT keys_pkey TO bare_pkey",
    'CREATE TABLE keys (task TEXT COLLATE "C" NOT NULL PRIMARY KEY, secret BYTEA NOT NULL, cover INTEGER NOT NULL)',
    "CREATE INDEX keys_by_cover ON keys (cover)",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # it writes over what is destroyed
    for statement in LAYOUT:
        op.execute(statement)
    masks = [os.urandom(COVER_BYTES) for _ in range(COVERS)]
    insert = sa.text("INSERT INTO covers SELECT * FROM unnest(CAST(:covers AS INTEGER[]), CAST(:masks AS BYTEA[]))")
    op.get_bind().execute(insert, {"covers": list(range(COVERS)), "masks": masks})
    _cover_keys(masks)
    op.execute("DROP TABLE bare")


def _cover_keys(masks: list[bytes]) -> None:
    insert = sa.text("INSERT INTO keys SELECT * FROM unnest(CAST(:tasks AS TEXT[]), CAST(:secrets AS BYTEA[]), CAST(:covers AS INTEGER[]))")
    bare = sa.text("SELECT task, secret FROM bare").execution_options(yield_per=PAGE)
    with op.get_bind().execute(bare) as found:
        for page in found.partitions():
            tasks = [task for task, _ in page]
            covers = [zlib.crc32(task.encode()) % COVERS for task in tasks]
            secrets = [_masked(masks[cover], task, secret) for cover, (task, secret) in zip(covers, page, strict=True)]
            op.get_bind().execute(insert, {"tasks": tasks, "secrets": secrets, "covers": covers})


def _masked(mask: bytes, task: str, secret: bytes) -> bytes:
    if secret == bytes(SECRET_BYTES):
        return secret
    noise = digest(mask, task.encode(), sha512)
    return (int.from_bytes(secret) ^ int.from_bytes(noise)).to_bytes(SECRET_BYTES)
