"""What a driver's handle needs of a bus: one in this process (`interlock/local.py`) or on Ray (`interlock/cluster/backend.py`)."""

from collections.abc import Sequence
from typing import Any, Protocol

from interlock.orchestrator.admission import Submission
from interlock.schemas.errors import AlreadyEnded
from interlock.schemas.record import Outcome

Wire = dict[str, Any]


def check_not_ended(record: Wire) -> None:
    """`AlreadyEnded` for the run record of a task that needs no killing; one that was killed may be killed again: same receipt."""
    if record["outcome"] not in (None, Outcome.KILLED):
        raise AlreadyEnded(task=record["task_id"], outcome=record["outcome"])


class Backend(Protocol):
    """The calls of `orchestrator/service.py` and of the supervisor. Errors are `InterlockError`s."""

    async def submit(self, submissions: Sequence[Submission]) -> list[Wire | None]: ...

    async def send(self, task: str, id: str, contract: str, version: str, data: bytes, by: str) -> None: ...

    async def outcomes(
        self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float
    ) -> dict[str, Wire] | None: ...

    async def entries(self, task: str, after: int, seconds: float) -> tuple[list[tuple[Any, ...]], bool]: ...

    async def record(self, task: str) -> Wire: ...

    async def tasks(self, limit: int, state: str | None) -> list[Wire]: ...

    async def inbox(self, open_only: bool) -> list[Wire]: ...

    async def decide(self, item: str, approve: bool, by: str, note: str) -> None: ...

    async def dead_letter(self, item: str) -> Wire: ...

    async def decide_letter(self, item: str, retry: bool, by: str, note: str) -> None: ...

    async def register(self, contract: str, version: str, schema: Wire, by: str) -> bool: ...

    async def contracts(self) -> list[Wire]: ...

    async def kill(self, task: str, by: str, why: str) -> Wire:
        """Stop a task by the whole ladder; its receipt."""

    async def used(self, task: str) -> dict[str, tuple[Any, Any, Any]]:
        """Per meter of a live task: used, reserved, limit."""

    async def scale(self, agent: str, replicas: int) -> None:
        """Set the size of an agent's pool. Raises `UnknownAgent`."""

    async def status(self) -> Wire: ...

    async def verify(self) -> int:
        """How many entries the ledger has, all intact. Raises `LedgerDamaged`."""

    async def close(self) -> None:
        """Let go of the bus; a local one stops."""
