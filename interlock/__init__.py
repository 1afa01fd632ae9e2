"""Interlock: an actor-based multi-agent message bus on Ray.

Everything here is loaded when it is first used, so that a replica that needs one room does not load them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.actors.agent_context import AgentContext
    from interlock.actors.context import WorkflowContext
    from interlock.aio import AsyncBus
    from interlock.app import App
    from interlock.bus import Bus, Task
    from interlock.local import LocalBus
    from interlock.schemas.budget import Budget
    from interlock.schemas.errors import AgentFailed, BudgetExceeded, InterlockError, Refused, TaskFailed, ToolFailed
    from interlock.schemas.message import Message, Untrusted
    from interlock.schemas.needs import Needs
    from interlock.schemas.record import Outcome
    from interlock.schemas.specs import Conversation, Escalate
    from interlock.tools.context import ToolContext
    from interlock.tools.repeat import Finding, Keyed, Natural, Never

_ROOMS = {
    "AgentContext": "actors.agent_context",
    "AgentFailed": "schemas.errors",
    "App": "app",
    "AsyncBus": "aio",
    "Budget": "schemas.budget",
    "BudgetExceeded": "schemas.errors",
    "Bus": "bus",
    "Conversation": "schemas.specs",
    "Escalate": "schemas.specs",
    "InterlockError": "schemas.errors",
    "Finding": "tools.repeat",
    "Keyed": "tools.repeat",
    "LocalBus": "local",
    "Message": "schemas.message",
    "Needs": "schemas.needs",
    "Natural": "tools.repeat",
    "Never": "tools.repeat",
    "Outcome": "schemas.record",
    "Refused": "schemas.errors",
    "Task": "bus",
    "TaskFailed": "schemas.errors",
    "ToolContext": "tools.context",
    "ToolFailed": "schemas.errors",
    "Untrusted": "schemas.message",
    "WorkflowContext": "actors.context",
}

__all__ = [
    "AgentContext",
    "AgentFailed",
    "App",
    "AsyncBus",
    "Budget",
    "BudgetExceeded",
    "Bus",
    "Conversation",
    "Escalate",
    "Finding",
    "InterlockError",
    "Keyed",
    "LocalBus",
    "Message",
    "Natural",
    "Needs",
    "Never",
    "Outcome",
    "Refused",
    "Task",
    "TaskFailed",
    "ToolContext",
    "ToolFailed",
    "Untrusted",
    "WorkflowContext",
]


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'interlock' has no attribute {name!r}")
    return getattr(import_module(f"interlock.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
