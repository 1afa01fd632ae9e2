"""The ledger on SQLite: one file on this machine."""

from collections.abc import Callable
from pathlib import Path

from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.sqlite_file import LedgerFile, make_file
from interlock.orchestrator.ledger.threaded import ThreadedLedger
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError
from interlock.schemas.ports import Clock


class SqliteLedger(ThreadedLedger):
    """`Store` on one SQLite file; `reader` answers from it."""

    @classmethod
    def create(
        cls,
        path: Path | str,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
        keeper: Keeper | None = None,
    ) -> "SqliteLedger":
        """Make a new ledger and open it; `LedgerExists` where one is."""
        make_file(Path(path))
        return cls.open(path, clock, on_failure=on_failure, on_durable=on_durable, keeper=keeper)

    @classmethod
    def open(
        cls,
        path: Path | str,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
        keeper: Keeper | None = None,
    ) -> "SqliteLedger":
        """Open a ledger that is there; `NoLedger` where none is. It writes after `open_epoch`."""
        return cls(Path(path), clock, on_failure, on_durable, keeper)

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(str(path), clock, Reader(path), LedgerFile(path), on_failure, on_durable, keeper)
