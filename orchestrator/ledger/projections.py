"""Projections: what the entries come to, as rows that can be asked. One description, used by every store.

`project` is pure: it reads an entry and what is known of its task and returns the rows that change. Stores write these rows in the
entry's own transaction; `refold` computes them from the entries alone, so that stored rows can be proved equal to the fold. Kinds that
are not in `PROJECTED` (all of the hot path) change no row and are never opened. No row has content: what was said is read from the entry
whose number is in the row (`shown.py`), and an erased task's rows stay as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.record import State

WITHDRAWN = "withdrawn"
"""The decision on an item that nobody needs any more: its command was cancelled or its task has ended."""


class TaskRow(NamedTuple):
    """One task. `seq` is the entry that accepted it, `reason_seq` the one that says why it ended so (0: none does); times are microseconds
    since the epoch."""

    task: str
    seq: int
    type: str
    state: str
    outcome: str
    accepted_at: int
    ended_at: int | None
    reason_seq: int


class InboxRow(NamedTuple):
    """Something asked of a human, in entry `seq`; open while `decision` is empty. `note_seq` is the entry with a note on the decision, 0
    where there is none."""

    item: str
    seq: int
    task: str
    kind: str
    to: str
    n: int
    dispatch: str
    asked_at: int
    expires: int
    decision: str
    by: str
    decided_at: int | None
    note_seq: int


class ContractRow(NamedTuple):
    """One registered version. `seq` is of its latest registration; `schema` is JSON text."""

    contract: str
    version: str
    seq: int
    schema: str
    by: str


class AppRow(NamedTuple):
    """One deployed version of an app. `seq` and `at` are of its latest deployment; `spec` is JSON text."""

    app: str
    version: str
    seq: int
    spec: str
    by: str
    at: int


class DeedRow(NamedTuple):
    """What is known of a write under its key, or of the last one to its resource. `state`: `done` (`seq` is the entry after the one with
    the result), `unknown` (nobody knows whether it happened; `attempt` at `holder` was granted it), `open` (there is nothing to know)."""

    deed: str
    seq: int
    task: str
    effect: str
    dispatch: str
    attempt: str
    tool: str
    holder: str
    state: str


Row = TaskRow | InboxRow | ContractRow | AppRow | DeedRow
_NAMED_BY_ONE = TaskRow, InboxRow, DeedRow
_NONE_OPEN: Mapping[str, InboxRow] = MappingProxyType({})
Key = tuple[type[Any], str, str]


class Known(NamedTuple):
    """What the rows say of a task before an entry: its own row and its open items."""

    task: TaskRow | None
    open: Mapping[str, InboxRow]


def key_of(row: Row) -> Key:
    """The row's identity over all tables."""
    if isinstance(row, _NAMED_BY_ONE):
        return type(row), row[0], ""
    return type(row), row[0], row[1]


def project(entry: e.Entry, known: Known) -> list[Row]:
    """The rows that `entry` changes, as they are afterwards."""
    step = _STEPS.get(entry.kind)
    return step(entry, entry.open(), known) if step is not None else []


class Tables:
    """The rows in memory: all of them, or those that a writer has at hand."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self._open: dict[str, dict[str, InboxRow]] = {}

    def known(self, task: str) -> Known:
        row = self.rows.get((TaskRow, task, ""))
        return Known(row if isinstance(row, TaskRow) else None, self._open.get(task, _NONE_OPEN))

    def holds(self, task: str) -> bool:
        """Whether the task's own row is here."""
        return (TaskRow, task, "") in self.rows

    def put(self, row: Row) -> None:
        self.rows[key_of(row)] = row
        if isinstance(row, InboxRow):
            items = self._open.setdefault(row.task, {})
            items.pop(row.item, None)
            if not row.decision:
                items[row.item] = row
            elif not items:
                del self._open[row.task]

    def forget(self, row: Row) -> None:
        """Take a row out that is settled; a writer reads it again should it be needed."""
        self.rows.pop(key_of(row), None)

    def fold(self, entry: e.Entry) -> list[Row]:
        """Take in one entry; the rows that it changed."""
        changed = project(entry, self.known(entry.task))
        for row in changed:
            self.put(row)
        return changed


def refold(entries: Iterable[e.Entry]) -> dict[Key, Row]:
    """All rows, computed from the entries alone."""
    tables = Tables()
    for entry in entries:
        if entry.kind in PROJECTED:
            tables.fold(entry)
    return tables.rows


def _accepted(entry: e.Entry, fact: e.TaskAccepted, known: Known) -> list[Row]:
    if known.task is not None:
        return []
    return [TaskRow(entry.task, entry.seq, fact.type, State.RUNNING.value, "", entry.at, None, 0)]


def _diverged(entry: e.Entry, fact: e.TaskDiverged, known: Known) -> list[Row]:
    if known.task is None or known.task.outcome:
        return []
    return [known.task._replace(state=State.DIVERGED.value)]


def _ended(entry: e.Entry, fact: e.TaskEnded, known: Known) -> list[Row]:
    if known.task is None or known.task.outcome:
        return []
    said = entry.seq if fact.reason else 0
    ended = known.task._replace(state=State.ENDED.value, outcome=fact.outcome, ended_at=entry.at, reason_seq=said)
    return [ended, *(_withdrawn(item, entry.at) for item in known.open.values())]


def _asked(entry: e.Entry, fact: e.ItemAsked, known: Known) -> list[Row]:
    if known.task is None or known.task.outcome or fact.item in known.open:
        return []  # an item is a live task's: who holds no row of the task need not look for items
    item = InboxRow(
        item=fact.item,
        seq=entry.seq,
        task=entry.task,
        kind=fact.kind,
        to=_kept(fact.to),
        n=fact.n,
        dispatch=fact.dispatch,
        asked_at=entry.at,
        expires=fact.expires,
        decision="",
        by="",
        decided_at=None,
        note_seq=0,
    )
    return [item, *_standing(known.task, waits=True)]


def _decided(entry: e.Entry, fact: e.ItemDecided, known: Known) -> list[Row]:
    item = known.open.get(fact.item)
    if item is None:
        return []
    said = entry.seq if fact.note else 0
    decided = item._replace(decision=fact.decision, by=_kept(fact.by), decided_at=entry.at, note_seq=said)
    again = item.kind == "diverged" and fact.decision == "approved"
    return [decided, *_standing(known.task, waits=len(known.open) > 1, again=again)]


def _cancelled(entry: e.Entry, fact: e.CommandCancelled, known: Known) -> list[Row]:
    gone = [item for item in known.open.values() if (item.n and item.n == fact.n) or (item.dispatch and item.dispatch == fact.dispatch)]
    if not gone:
        return []
    return [*(_withdrawn(item, entry.at) for item in gone), *_standing(known.task, waits=len(known.open) > len(gone))]


def _withdrawn(item: InboxRow, at: int) -> InboxRow:
    return item._replace(decision=WITHDRAWN, decided_at=at)


def _standing(task: TaskRow | None, waits: bool, again: bool = False) -> list[Row]:
    """The task's row with the state that its open items leave it in; none where that is no change. One that diverged stays so unless it
    is to be tried `again`."""
    state = (State.WAITING if waits else State.RUNNING).value
    if task is None or task.state == state or (task.state == State.DIVERGED.value and not again):
        return []
    return [task._replace(state=state)]


def _registered(entry: e.Entry, fact: e.ContractRegistered, known: Known) -> list[Row]:
    return [ContractRow(fact.contract, fact.version, entry.seq, encode(fact.schema).decode(), _kept(fact.by))]


def _deployed(entry: e.Entry, fact: e.AppDeployed, known: Known) -> list[Row]:
    return [AppRow(fact.app, fact.version, entry.seq, encode(fact.spec).decode(), _kept(fact.by), entry.at)]


def _kept(text: str) -> str:
    """The text as every database can keep it: without NUL. The entry has it as it was."""
    return text.replace("\0", "\ufffd")


def _unknown(entry: e.Entry, fact: e.EffectUnknown, known: Known) -> list[Row]:
    if not fact.deed:
        return []
    said = (fact.effect, fact.dispatch, fact.attempt, fact.tool, fact.replica, "unknown")
    return [DeedRow(fact.deed, entry.seq, entry.task, *said)]


def _settled(entry: e.Entry, fact: e.DeedSettled, known: Known) -> list[Row]:
    said = (fact.effect, fact.dispatch, fact.attempt, fact.tool, "", "done" if fact.done else "open")
    return [DeedRow(fact.deed, entry.seq, entry.task, *said)]


_STEPS: dict[str, Callable[[e.Entry, Any, Known], list[Row]]] = {
    e.TaskAccepted.KIND: _accepted,
    e.TaskDiverged.KIND: _diverged,
    e.TaskEnded.KIND: _ended,
    e.ItemAsked.KIND: _asked,
    e.ItemDecided.KIND: _decided,
    e.CommandCancelled.KIND: _cancelled,
    e.ContractRegistered.KIND: _registered,
    e.AppDeployed.KIND: _deployed,
    e.EffectUnknown.KIND: _unknown,
    e.DeedSettled.KIND: _settled,
}

PROJECTED = frozenset(_STEPS)
