"""Where a ledger is kept: a file, or a PostgreSQL database. A database's password is never shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from interlock.schemas.errors import NoLedger

LEDGER_VARIABLE = "INTERLOCK_LEDGER"
LEDGER_FILE, JOURNAL_FILE = "ledger.db", "supervisor.db"

_SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database by its URL; `str` of it leaves out the password."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        _, at, host = parts.netloc.rpartition("@")
        kept = [(key, value) for key, value in parse_qsl(parts.query) if "password" not in key]
        query = f"?{urlencode(kept, safe='/')}" if kept else ""
        return f"{parts.scheme}://{f'{parts.username}@' if at and parts.username else ''}{host}{parts.path}{query}"


Place = Path | Database


def place_of(text: str) -> Place:
    """The database that a URL names, else the file at that path."""
    return Database(text) if text.partition("://")[0] in _SCHEMES else Path(text)


def ledger_in(environment: Mapping[str, str]) -> Database | None:
    """The database that `INTERLOCK_LEDGER` names; none where it is not set. Raises `NoLedger` where it names something else."""
    text = environment.get(LEDGER_VARIABLE, "")
    if not text:
        return None
    place = place_of(text)
    if not isinstance(place, Database):
        raise NoLedger(
            path=text,
            problem=f"{LEDGER_VARIABLE} is not the URL of a PostgreSQL database",
            remedy="Set it to postgresql://USER@HOST/DATABASE, or unset it to keep the ledger in a file.",
        )
    return place
