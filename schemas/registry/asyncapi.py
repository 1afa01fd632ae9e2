"""An app as an AsyncAPI 3 document: its messages, and who takes which and answers with which.

A channel is a contract, for that is what messages are routed by; an operation is an agent or a workflow that takes it. Replies travel
back on a channel of their own, which has no address. What a contract defines for itself is referred to where it stands in this document.
"""

from collections.abc import Iterable
from typing import Any

from interlock.schemas.specs import AppSpec, ContractRef


def asyncapi(spec: AppSpec) -> dict[str, Any]:
    """The document, as JSON."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for agent in spec.agents:
        operations[f"agent.{agent.name}"] = _operations(f"agent.{agent.name}", agent.accepts, agent.returns, channels)
    for flow in spec.workflows:
        operations[f"workflow.{flow.name}"] = _operations(f"workflow.{flow.name}", (flow.request,), (flow.result,), channels)
        if flow.receives:
            operations[f"workflow.{flow.name}.running"] = _operations(f"workflow.{flow.name}.running", flow.receives, (), channels)
    flat = {f"{name}.{contract}": one for name, several in operations.items() for contract, one in several.items()}
    keys = [_key(ContractRef(*name.split(" "))) for name in spec.schemas]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": spec.name,
            "version": spec.version,
            "description": f"What the agents and workflows of {spec.name} take and answer.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": flat,
        "components": {
            "messages": {key: {"name": key, "payload": {"$ref": f"#/components/schemas/{key}"}} for key in keys},
            "schemas": {key: _moved(schema, key) for key, schema in zip(keys, spec.schemas.values(), strict=True)},
        },
    }


def _operations(who: str, takes: Iterable[ContractRef], gives: Iterable[ContractRef], channels: dict[str, Any]) -> dict[str, Any]:
    """One for each contract that is taken; what they need of channels is put there."""
    reply = {}
    for ref in gives:
        replies = channels.setdefault(f"{who}.replies", {"address": None, "messages": {}})
        replies["messages"][_key(ref)] = _message(ref)
        reply = {"reply": {"channel": {"$ref": f"#/channels/{who}.replies"}}}
    found: dict[str, Any] = {}
    for ref in takes:
        channels.setdefault(ref.name, {"address": ref.name, "messages": {}})["messages"][_key(ref)] = _message(ref)
        operation = found.setdefault(
            ref.name, {"action": "receive", "title": who, "channel": {"$ref": f"#/channels/{ref.name}"}, "messages": [], **reply}
        )
        operation["messages"].append({"$ref": f"#/channels/{ref.name}/messages/{_key(ref)}"})
    return found


def _key(ref: ContractRef) -> str:
    return f"{ref.name}-{ref.version}"


def _message(ref: ContractRef) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{_key(ref)}"}


def _moved(part: Any, key: str) -> Any:
    """A contract's schema with its own references leading to where it now stands; it is written in the document's dialect."""
    if isinstance(part, list):
        return [_moved(inner, key) for inner in part]
    if not isinstance(part, dict):
        return part
    moved = {word: _moved(inner, key) for word, inner in part.items() if word != "$schema" or not isinstance(inner, str)}
    if isinstance(reference := moved.get("$ref"), str) and reference.startswith("#"):
        moved["$ref"] = f"#/components/schemas/{key}{reference[1:]}"
    return moved
