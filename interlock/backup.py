"""Backups of all that a bus knows: its ledger, and the supervisor's journal beside it, in one file."""

from functools import partial
from pathlib import Path
from typing import Any

from interlock.actors.supervisor import journal_copy
from interlock.clock import SystemClock
from interlock.orchestrator.ledger import backup as ledgers
from interlock.schemas.errors import LedgerInUse
from interlock.schemas.places import JOURNAL_FILE, Database, Place
from interlock.settings import BUS_FILE


def save(ledger: Place, home: Path, file: Path) -> dict[str, Any]:
    """Back up the bus of `home`, whose ledger is at `ledger`, into a new file, also while it runs. Raises `LedgerExists` where one is."""
    with ledgers.new_backup(ledger, file) as (draft, copied):
        rows = journal_copy.save(_journal(ledger, home), home, draft)
    return {"file": str(file), "ledger": str(ledger), "entries": copied.entries, "head": copied.head.hex(), "journal": rows}


def load(file: Path, ledger: Place, home: Path) -> dict[str, Any]:
    """Restore a backup to where no ledger is, or an empty one. Raises `LedgerInUse` where the bus of `home` runs, or another on that
    database; `LedgerExists` where the ledger has entries."""
    if (home / BUS_FILE).exists():
        raise LedgerInUse(path=str(ledger))
    journal = _journal(ledger, home)
    # Before the first entry: a ledger without its journal would have every budget anew. Cut short in between, it may be begun again.
    copied = ledgers.restore(file, ledger, partial(journal_copy.load, file, journal, SystemClock()))
    rows = len(journal_copy.rows_in(file))
    return {"file": str(file), "ledger": str(ledger), "entries": copied.entries, "head": copied.head.hex(), "journal": rows}


def _journal(ledger: Place, home: Path) -> Place:
    return ledger if isinstance(ledger, Database) else home / JOURNAL_FILE
