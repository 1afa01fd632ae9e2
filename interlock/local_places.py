"""Where a bus in one process keeps what lasts: its ledger and its supervisor's journal, in files of a folder or in a database."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from interlock.actors.supervisor import journals
from interlock.actors.supervisor.journal import Journal, Order
from interlock.orchestrator.ledger import stores
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.errors import InterlockError
from interlock.schemas.places import JOURNAL_FILE, LEDGER_FILE, Database
from interlock.schemas.ports import Clock
from interlock.settings import checkpoint_place


class Places:
    """`folder` is the bus's own, also where `database` has ledger and journal."""

    def __init__(self, folder: Path, database: Database | None, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._ledger, self._journal = database or folder / LEDGER_FILE, database or folder / JOURNAL_FILE

    def prepare(self) -> None:
        """Make what is not there yet. A restart of engine or supervisor makes none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        stores.prepare(self._ledger)
        journals.prepare(self._journal, self._clock)

    def ledger(self, on_failure: Callable[[InterlockError], None]) -> Writer:
        """The ledger that is there, no epoch opened yet."""
        keeper = Keeper.beside(self._folder, partial(stores.open_reader, self._ledger), checkpoint_place())
        return stores.open_ledger(self._ledger, self._clock, on_failure=on_failure, keeper=keeper)

    def journal(self) -> Journal:
        """The journal that is there, for the next incarnation."""
        return journals.open_journal(self._journal, self._clock, self._folder)

    def write_order(self, order: Order) -> str:
        """Keep an order without a supervisor, durably; where it is. Raises `OrderNotKept`."""
        return journals.write_order(self._journal, order, self._folder).path
