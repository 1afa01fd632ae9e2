"""The audit of a ledger: its chain is whole, and the rows beside the entries say what the entries say."""

from collections.abc import Callable, Iterable, Iterator

from interlock.orchestrator.ledger.chain import verify
from interlock.orchestrator.ledger.projections import PROJECTED, Key, Row, Tables, key_of
from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerDamaged


def audit(entries: Iterable[Entry], stored: Callable[[], Iterable[Row]]) -> int:
    """How many entries there are, all intact and equal to the stored rows; else `LedgerDamaged` with the first that is not."""
    tables = Tables()
    number = verify(_folding(entries, tables))
    _compare({key_of(row): row for row in stored()}, tables.rows)
    return number


def _folding(entries: Iterable[Entry], tables: Tables) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        # Only here has the chain vouched for it: what was tampered with is never opened.
        if entry.kind in PROJECTED:
            tables.fold(entry)


def _compare(stored: dict[Key, Row], folded: dict[Key, Row]) -> None:
    wrong = [folded.get(key) or stored[key] for key in stored.keys() | folded.keys() if stored.get(key) != folded.get(key)]
    if wrong:
        first = min(wrong, key=lambda row: row.seq)
        what = type(first).__name__.removesuffix("Row").lower()
        raise LedgerDamaged(seq=first.seq, problem=f"the {what} {first[0]} that it began is not stored as the entries tell it")
