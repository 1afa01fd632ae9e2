"""The audit of a ledger: its chain is whole, its entries are those that were signed, the rows beside them say what they say, and what is
sealed in them opens unless they say that it was erased or pruned."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from interlock.orchestrator.ledger.chain import verify
from interlock.orchestrator.ledger.merkle import Tree, leaf
from interlock.orchestrator.ledger.notes import Checkpoint
from interlock.orchestrator.ledger.opener import Opener
from interlock.orchestrator.ledger.projections import PROJECTED, Key, Row, Tables, key_of
from interlock.schemas.entries import ERASED, PRUNED, ContentPruned, Entry, TaskErased
from interlock.schemas.errors import LedgerDamaged


def audit(entries: Iterable[Entry], stored: Callable[[], Iterable[Row]] | None, signed: Sequence[Checkpoint], opener: Opener) -> int:
    """How many entries there are, all intact and those that were signed; else `LedgerDamaged` with the first that is not.

    Where `stored` gives the rows, they are equal to what the entries come to, too, and `opener` opens what they have sealed.
    """
    tables, content = Tables(), _Content()
    walked = _signed(entries, sorted((one for one in signed if one.size), key=lambda one: one.size))
    number = verify(walked if stored is None else _folding(walked, tables, content, opener))
    if stored is not None:
        content.check()
        _compare({key_of(row): row for row in stored()}, tables.rows)
    return number


def _signed(entries: Iterable[Entry], signed: Sequence[Checkpoint]) -> Iterator[Entry]:
    """The entries, each handed on before it is looked at here: the chain names a bad one exactly, a root only the stretch that it is in."""
    tree, fresh, good = Tree(), [], 0
    waiting = iter(signed)
    due = next(waiting, None)
    for entry in entries:
        yield entry
        if due is None:
            continue
        fresh.append(leaf(entry.hash))
        while due is not None and due.size == entry.seq:
            tree.extend(fresh)
            fresh = []
            if due.root != tree.root():
                raise LedgerDamaged(seq=good + 1, problem=_rewritten(good + 1, due))
            good, due = due.size, next(waiting, None)
    if due is not None:
        last = tree.size + len(fresh)
        raise LedgerDamaged(seq=last + 1, problem=f"it is missing: the ledger ends before it, and {due.size} entries were signed")


def _rewritten(begin: int, due: Checkpoint) -> str:
    which = f"it or one up to entry {due.size} is" if due.size > begin else "it is"
    return f"{which} not the one that was signed, though the chain is whole: its history was rewritten"


class _Content:
    """What is gone of the tasks' content, and what the entries say of that."""

    def __init__(self) -> None:
        self._said: dict[str, set[str]] = {ERASED: set(), PRUNED: set()}
        self._gone: dict[tuple[str, str], int] = {}
        self._there: dict[str, int] = {}

    def see(self, entry: Entry) -> None:
        if entry.kind in (TaskErased.KIND, ContentPruned.KIND):
            self._said[ERASED if entry.kind == TaskErased.KIND else PRUNED].add(entry.task)
        elif entry.gone:
            self._gone.setdefault((entry.task, entry.gone), entry.seq)
        elif entry.content:
            self._there.setdefault(entry.task, entry.seq)

    def check(self) -> None:
        wrong = [
            (seq, f"its content is gone, and no entry says that it was {gone}")
            for (task, gone), seq in self._gone.items()
            if task not in self._said[gone]
        ]
        wrong += [
            (seq, "its content is there, and an entry says that it was erased")
            for task, seq in self._there.items()
            if task in self._said[ERASED]
        ]
        if wrong:
            seq, problem = min(wrong)
            raise LedgerDamaged(seq=seq, problem=problem)


def _folding(entries: Iterable[Entry], tables: Tables, content: _Content, opener: Opener) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        # Only here has the chain vouched for it: what was tampered with is never opened.
        opened = opener.open(entry)
        content.see(opened)
        if entry.kind in PROJECTED:
            tables.fold(opened)


def _compare(stored: dict[Key, Row], folded: dict[Key, Row]) -> None:
    wrong = [folded.get(key) or stored[key] for key in stored.keys() | folded.keys() if stored.get(key) != folded.get(key)]
    if wrong:
        first = min(wrong, key=lambda row: row.seq)
        what = type(first).__name__.removesuffix("Row").lower()
        raise LedgerDamaged(seq=first.seq, problem=f"the {what} {first[0]} that it began is not stored as the entries tell it")
