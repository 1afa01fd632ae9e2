"""Receipts: the proof of what an order stopped, built from what was seen, and in words for people."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from interlock.actors.supervisor.case import Case
from interlock.actors.supervisor.journal import Order
from interlock.schemas.record import Receipt

_WORDS = {
    "cancelled": "let go when asked",
    "killed": "killed",
    "gone": "was gone already",
    "unverified": "NOT VERIFIED: it was not seen to stop, and may still run",
}


_UNDO = {
    "open": "open",
    "failed": "FAILED, somebody has to decide",
    "unknown": "NOT KNOWN whether it took place, somebody has to decide",
    "stopped": "NOT DONE, it was stopped",
    "not needed": "not needed, it did not happen",
    "not wanted": "NOT DONE, nobody wanted it",
}
_SECOND = 1_000_000
_SHOWN = 10
_UNDER_WAY = ("open", "failed", "unknown")


def part(case: Case, order: Order, fenced: int, granted: int, settled: int, unknown: list[str], verified: bool) -> Receipt:
    """What is to be said of one task; times in microseconds, 0: never. Of one that a stop has ended the processes are in the stop's own."""
    return Receipt(
        order=order.id,
        task=order.task,
        by=order.by,
        why=order.why,
        requested=order.requested / _SECOND,
        durable=case.durable / _SECOND,
        fenced=fenced / _SECOND,
        last_gone=_last_gone(case),
        unknown_effects=unknown,
        verified=verified,
        last_grant=granted / _SECOND if granted else None,
        last_effect=settled / _SECOND if settled else None,
        half_done=_of(order.task, case.left.half_done),
        undos=_of(order.task, case.left.undos),
        heard=order.task in case.heard,
        part_of=order.stop,
    )


def build(case: Case, fenced: int, parts: Sequence[Receipt], verified: bool) -> Receipt:
    """The receipt of a finished sweep: of a task, or of a stop with those of its tasks summed up."""
    processes = [dict(entry) for entry in case.found.values()]
    if case.stop is None:
        return replace(parts[0], processes=processes)
    order = case.order
    return Receipt(
        order=order.id,
        task=order.task,
        by=order.by,
        why=order.why,
        requested=order.requested / _SECOND,
        durable=case.durable / _SECOND,
        fenced=fenced / _SECOND,
        last_gone=_last_gone(case),
        processes=processes,
        unknown_effects=[effect for one in parts for effect in one.unknown_effects],
        verified=verified,
        last_grant=max((one.last_grant for one in parts if one.last_grant is not None), default=None),
        last_effect=max((one.last_effect for one in parts if one.last_effect is not None), default=None),
        half_done=[effect for one in parts for effect in one.half_done],
        undos=[undo for one in parts for undo in one.undos],
        heard=all(one.heard for one in parts),
        selection=str(case.stop.selection),
        tasks=len(parts),
    )


def _of(task: str, left: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in left if one["task"] == task]


def _last_gone(case: Case) -> float | None:
    return max((entry["at"] for entry in case.found.values() if entry["how"] not in ("", "unverified")), default=None)


def text(receipt: Receipt) -> str:
    """The receipt as lines for a terminal."""
    began = datetime.fromtimestamp(receipt.requested, UTC)
    what = f"{receipt.selection} ({receipt.task})" if receipt.selection else receipt.task
    lines = [
        f"{what} {'stopped' if receipt.verified else 'ordered to stop, NOT VERIFIED'}",
        f"  order {receipt.order} by {receipt.by}: {receipt.why}",
        f"  requested {began:%Y-%m-%d %H:%M:%S} UTC",
    ]
    for word, at in (("durable", receipt.durable), ("fenced", receipt.fenced), ("last process gone", receipt.last_gone)):
        if at is not None:
            lines.append(f"  {word} after {max(0.0, at - receipt.requested):.3f} s")
    for word, at in (("last grant", receipt.last_grant), ("last effect ended", receipt.last_effect)):
        if at is not None:
            after = at - receipt.requested
            lines.append(f"  {word} {abs(after):.3f} s {'after' if after > 0 else 'before'}")
    if receipt.selection:
        lines.append(f"  {receipt.tasks} tasks ended")
    lines += [f"  {entry['incarnation']}: {_WORDS[entry['how']]}" for entry in receipt.processes]
    if receipt.part_of:
        lines.append(f"  its processes are in the receipt of the stop {receipt.part_of}")
    elif not receipt.processes:
        lines.append("  no process held it")
    told = {one["effect"] for one in receipt.half_done}
    lines += [
        f"  {one['tool']} ({one['effect']}, called with {one['label']} data): may be half done{_compensated(receipt, one)}"
        for one in receipt.half_done
    ]
    lines += [f"  {line}" for line in undo_lines(receipt.undos)]
    if not receipt.heard:
        lines.append("  the orchestrator had not said by then what may be half done and what undoes it; see `interlock show`")
    lines += [f"  effect {effect}: not known whether it took place" for effect in receipt.unknown_effects if effect not in told]
    return "\n".join(lines)


def _compensated(receipt: Receipt, effect: dict[str, Any]) -> str:
    """What takes back a write that may be half done."""
    mine = [one for one in receipt.undos if one["task"] == effect["task"]]
    undos = [one for one in mine if one["of"] == effect["tool"]] or [one for one in mine if not one["of"]]
    return "" if undos else "; nothing is registered that undoes it"


def undo_lines(undos: Sequence[dict[str, Any]]) -> list[str]:
    """How undos stand, and which tasks undo."""
    lines = [f"undo by {one['tool']}{' of ' + one['of'] if one['of'] else ''}: {_UNDO.get(one['state'], one['state'])}" for one in undos]
    undoing = dict.fromkeys(one["undoing"] for one in undos if one["state"] in _UNDER_WAY)
    return lines + [f"{task} undoes it; `interlock kill {task}` stops that" for task in list(undoing)[:_SHOWN]]
