"""Version 2: the deeds that are remembered by key, and those of which nobody knows whether they happened."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TEXTS = ("task", "effect", "dispatch", "attempt", "tool", "digest", "holder", "state")


def upgrade() -> None:
    columns = [sa.Column(name, TEXT, nullable=False) for name in TEXTS]
    key, seq = sa.Column("deed", TEXT, primary_key=True), sa.Column("seq", BIG, nullable=False)
    op.create_table("deeds", key, seq, *columns, sqlite_strict=True)
