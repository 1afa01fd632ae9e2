"""Version 5: what waits for a human is found in the order in which it was asked, a page at a time, however much of it there is."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    waits = sa.text("decision = ''")
    op.create_index("inbox_waiting", "inbox", ["seq", "kind"], sqlite_where=waits, postgresql_where=waits)
