"""Entries about the bus itself (their task is ""), and about what the ledger keeps of a task.

They are used as all entries are, by `interlock.schemas.entries`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from interlock.schemas.fact import Fact

RETENTION_DAYS = 184
"""How long after a task's end what its model calls said is kept, where nobody says otherwise."""

RETENTION_AT_LEAST = 30
"""For fewer days it is kept only where the task is erased."""


@dataclass(frozen=True, slots=True)
class EpochStarted(Fact):
    KIND: ClassVar[str] = "epoch.started"
    epoch: int
    version: str


@dataclass(frozen=True, slots=True)
class AppDeployed(Fact):
    KIND: ClassVar[str] = "app.deployed"
    app: str
    version: str
    spec: Any
    by: str


@dataclass(frozen=True, slots=True)
class ContractRegistered(Fact):
    KIND: ClassVar[str] = "contract.registered"
    contract: str
    version: str
    schema: Any
    by: str


@dataclass(frozen=True, slots=True)
class TaskErased(Fact):
    """The key of the task's content was destroyed in this entry's own transaction; nothing can read what is sealed before and after it."""

    KIND: ClassVar[str] = "task.erased"
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class ContentPruned(Fact):
    """What was kept by name of an ended task's model calls was deleted in this entry's own transaction: it is older than `days`."""

    KIND: ClassVar[str] = "content.pruned"
    by: str
    days: int
