"""Rows as people are shown them: with the words that were said.

The rows beside the entries hold none of them, only the number of the entry that has them under its seal: what a task said is in one place,
and gone with its key. So the words are read where somebody lists tasks or items.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from interlock.orchestrator.ledger.projections import InboxRow, TaskRow
from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.ids import DEFAULT_TENANT

Facts = Callable[[Sequence[int]], Mapping[int, e.Fact]]
"""Looks up what the entries with these numbers say."""


class TaskShown(NamedTuple):
    """One task. `seq` is the entry that accepted it; times are microseconds since the epoch."""

    task: str
    seq: int
    type: str
    state: str
    outcome: str
    reason: str
    accepted_at: int
    ended_at: int | None
    tenant: str = DEFAULT_TENANT


class ItemShown(NamedTuple):
    """Something asked of a human; open while `decision` is empty. `details` is JSON text."""

    item: str
    seq: int
    task: str
    kind: str
    to: str
    text: str
    details: str
    n: int
    dispatch: str
    asked_at: int
    expires: int
    decision: str
    by: str
    note: str
    decided_at: int | None


def tasks_shown(rows: Iterable[TaskRow], facts: Facts) -> list[TaskShown]:
    rows = list(rows)
    said = facts([seq for row in rows for seq in (row.seq, row.reason_seq) if seq])
    return [_task(row, said.get(row.seq), said.get(row.reason_seq)) for row in rows]


def items_shown(rows: Iterable[InboxRow], facts: Facts) -> list[ItemShown]:
    rows = list(rows)
    said = facts([seq for row in rows for seq in (row.seq, row.note_seq) if seq])
    return [_item(row, said.get(row.seq), said.get(row.note_seq)) for row in rows]


def _task(row: TaskRow, begin: e.Fact | None, end: e.Fact | None) -> TaskShown:
    reason = end.reason if isinstance(end, e.TaskEnded) else ""
    tenant = begin.tenant if isinstance(begin, e.TaskAccepted) else DEFAULT_TENANT
    return TaskShown(row.task, row.seq, row.type, row.state, row.outcome, reason, row.accepted_at, row.ended_at, tenant)


def _item(row: InboxRow, asked: e.Fact | None, decided: e.Fact | None) -> ItemShown:
    text, details = (asked.text, asked.details) if isinstance(asked, e.ItemAsked) else ("", None)
    return ItemShown(
        item=row.item,
        seq=row.seq,
        task=row.task,
        kind=row.kind,
        to=row.to,
        text=text,
        details=encode(details).decode(),
        n=row.n,
        dispatch=row.dispatch,
        asked_at=row.asked_at,
        expires=row.expires,
        decision=row.decision,
        by=row.by,
        note=decided.note if isinstance(decided, e.ItemDecided) else "",
        decided_at=row.decided_at,
    )
