"""Room: what was pruned keeps its place in the pages of a PostgreSQL until a VACUUM gives that to rows that overwrite it.

The server does so by itself, but not before a fifth of a table is dead. After a prune it is asked to at once, in a thread and on a
connection of its own: a large table takes minutes, and nobody waits for it. What is cut short is the server's again.
"""

import logging
import threading
from contextlib import closing, suppress

import psycopg

from interlock.schemas.errors import NoLedger
from interlock.schemas.places import Database
from interlock.tools import postgres

_LOG = logging.getLogger("interlock.ledger")

_CANCEL_SECONDS = 0.2


class Room:
    """The room of one ledger. Use it from one thread."""

    def __init__(self, where: Database, schema: str) -> None:
        self._where, self._schema = where, schema
        self._working: threading.Thread | None = None
        self._db: postgres.Connection | None = None
        self._closed = False

    def free(self) -> None:
        """Begin to free what is dead. Where that is under way it goes on: what has died since is freed the next time."""
        if not self.busy and not self._closed:
            self._working = threading.Thread(target=self._free, name="ledger room", daemon=True)
            self._working.start()

    @property
    def busy(self) -> bool:
        return self._working is not None and self._working.is_alive()

    def close(self) -> None:
        """Cut short what is under way."""
        self._closed = True
        while self._working is not None and self.busy:
            if self._db is not None:
                with suppress(psycopg.Error):  # the server is slow to answer, or gone: it is asked again until the work has ended
                    self._db.cancel_safe(timeout=_CANCEL_SECONDS)
            self._working.join(_CANCEL_SECONDS)

    def _free(self) -> None:
        try:
            with closing(postgres.connect(self._where, "interlock room", self._schema)) as self._db:
                if not self._closed:
                    self._db.execute("SET vacuum_cost_delay = '2ms'")  # as the server's own does: others are served meanwhile
                    self._db.execute("VACUUM contents")
        except (NoLedger, psycopg.Error) as problem:
            if not self._closed:
                _LOG.warning("the room of what was pruned is not free yet, the server frees it later: %s", postgres.sentence(problem))
