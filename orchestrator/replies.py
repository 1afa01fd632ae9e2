"""Replies: what is said with what an agent answers. Pure."""

from interlock.orchestrator.router import Router
from interlock.orchestrator.state import DispatchState, TaskState
from interlock.schemas.envelope import head_of, joined
from interlock.schemas.ids import traceparent
from interlock.schemas.labels import Label, untrusted
from interlock.schemas.specs import ContractRef
from interlock.schemas.times import rfc3339


def used_label(router: Router, dispatch: DispatchState) -> Label:
    """Of whatever comes of a dispatch: its message's label, joined with those of the tools that it used."""
    label = dispatch.label
    for effect in dispatch.effects.values():
        if effect.kind == "model" or effect.status != "ended":
            continue
        spec = router.known_tools.get((dispatch.agent, effect.name))
        if spec is None or not spec.trusted_because:
            label = label.join(untrusted(f"tool/{effect.name}"))
    return label


def reply_envelope(task: TaskState, dispatch: DispatchState, contract: ContractRef, data: bytes, label: Label, now: int) -> bytes:
    """What its agent answered, as it is recorded; `now` in microseconds."""
    head = head_of(
        contract,
        id=f"{dispatch.id}-reply",
        source=f"/agents/{dispatch.agent}",
        subject=task.id,
        time=rfc3339(now),
        traceparent=traceparent(task.id, dispatch.attempt),
        correlationid=dispatch.id,
        causationid=dispatch.id,
        label=label.encode(),
        attempt=dispatch.attempt,
    )
    return joined(head, data)
