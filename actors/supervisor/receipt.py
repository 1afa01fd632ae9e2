"""Receipts: the proof of what an order stopped, built from what was seen, and in words for people."""

from datetime import UTC, datetime
from typing import Any

from interlock.actors.supervisor.journal import Order
from interlock.schemas.record import Receipt

_WORDS = {
    "cancelled": "let go when asked",
    "killed": "killed",
    "gone": "was gone already",
    "unverified": "NOT VERIFIED: it was not seen to stop, and may still run",
}


def build(order: Order, durable: int, fenced: int, found: list[dict[str, Any]], unknown_effects: list[str], verified: bool) -> Receipt:
    """The receipt of a finished sweep; times in microseconds."""
    return Receipt(
        order=order.id,
        task=order.task,
        by=order.by,
        why=order.why,
        requested=order.requested / 1_000_000,
        durable=durable / 1_000_000,
        fenced=fenced / 1_000_000,
        last_gone=max((entry["at"] for entry in found if entry["how"] != "unverified"), default=None),
        processes=found,
        unknown_effects=unknown_effects,
        verified=verified,
    )


def text(receipt: Receipt) -> str:
    """The receipt as lines for a terminal."""
    began = datetime.fromtimestamp(receipt.requested, UTC)
    lines = [
        f"{receipt.task} {'stopped' if receipt.verified else 'ordered to stop, NOT VERIFIED'}",
        f"  order {receipt.order} by {receipt.by}: {receipt.why}",
        f"  requested {began:%Y-%m-%d %H:%M:%S} UTC",
    ]
    for word, at in (("durable", receipt.durable), ("fenced", receipt.fenced), ("last process gone", receipt.last_gone)):
        if at is not None:
            lines.append(f"  {word} after {max(0.0, at - receipt.requested):.3f} s")
    lines += [f"  {entry['incarnation']}: {_WORDS[entry['how']]}" for entry in receipt.processes]
    if not receipt.processes:
        lines.append("  no process held it")
    lines += [f"  effect {effect}: not known whether it took place" for effect in receipt.unknown_effects]
    return "\n".join(lines)
