"""What a driver's handle needs of a bus: one in this process (`interlock/local.py`) or on Ray (`interlock/cluster/backend.py`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from interlock.orchestrator.admission import Submission
from interlock.schemas.errors import AlreadyEnded, InterlockError, UnknownAgent, UnknownTask, UnknownTaskType
from interlock.schemas.record import Outcome
from interlock.schemas.stops import Selection

Wire = dict[str, Any]


CHECK_SECONDS = 2.0
"""How long a kill waits for the orchestrator to say whether there is such a task."""

_LOG = logging.getLogger("interlock")


async def check_kill(task: str, record: Callable[[str], Awaitable[Wire]]) -> None:
    """A mistyped task, or one that has ended, is said so at once (`UnknownTask`, `AlreadyEnded`), but for one
    that was killed: a second kill has the same receipt; and while what an ended one did is being undone, that is what is killed. Where the
    orchestrator cannot say, for whatever reason, the kill goes on without it."""
    try:
        outcome = (await asyncio.wait_for(record(task), CHECK_SECONDS))["outcome"]
    except UnknownTask:
        raise
    except (TimeoutError, InterlockError) as error:
        _LOG.warning("the orchestrator cannot say whether there is such a task; %s is killed without it (%r)", task, error)
    else:
        if outcome not in (None, Outcome.KILLED):
            raise AlreadyEnded(task=task, outcome=outcome)


async def check_stop(selection: Selection, check: Awaitable[None]) -> None:
    """A mistyped agent or task type is said so at once; where the orchestrator cannot say, the stop goes on without it."""
    try:
        await asyncio.wait_for(check, CHECK_SECONDS)
    except (UnknownAgent, UnknownTaskType):
        raise
    except (TimeoutError, InterlockError) as error:
        _LOG.warning("the orchestrator cannot say whether there is such a thing; %s is stopped without it (%r)", selection, error)


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

    async def inbox(self, open_only: bool, limit: int, after: str, kind: str, task: str) -> list[Wire]: ...

    async def inbox_count(self, open_only: bool, after: str, kind: str) -> int: ...

    async def decide(self, item: str, approve: bool, by: str, note: str) -> None: ...

    async def dead_letter(self, item: str) -> Wire: ...

    async def decide_letter(self, item: str, retry: bool, by: str, note: str) -> None: ...

    async def register(self, contract: str, version: str, schema: Wire, by: str) -> bool: ...

    async def contracts(self) -> list[Wire]: ...

    async def contract(self, contract: str, version: str) -> Wire:
        """`contract`, `version`, `schema` of one version; of the highest where none is named."""

    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> Wire:
        """Stop a task by the whole ladder; its receipt. `undo`: what it did is undone then."""

    async def undos(self, task: str) -> list[Wire]:
        """How what a task registered to be undone stands: `task`, `undoing`, `n`, `tool`, `of`, `state`."""

    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> Wire:
        """Stop what a selection names, or open it again (`resume`), under an id that the client has made; the receipt."""

    async def check_stop(self, scope: str, name: str) -> None:
        """Raises `UnknownAgent` or `UnknownTaskType` where nobody is called so."""

    async def erase(self, task: str, by: str, why: str) -> Wire:
        """Destroy what an ended task said."""

    async def prune(self, days: int, by: str, dry_run: bool) -> Wire:
        """Delete what the model calls of tasks said that ended so many days ago."""

    async def budget(self, task: str) -> Wire: ...

    async def limits(self) -> list[Wire]: ...

    async def change_budget(self, task: str, limits: Wire, by: str, why: str) -> None: ...

    async def limit(self, scope: str, per: str, limits: Wire, by: str, why: str) -> None: ...

    async def used(self, task: str) -> dict[str, tuple[Any, Any, Any]]:
        """Per meter of a live task: used, reserved, limit."""

    async def scale(self, agent: str, replicas: int | None) -> None:
        """Set the size of an agent's pool. Raises `UnknownAgent`."""

    async def status(self) -> Wire: ...

    async def verify(self) -> int:
        """How many entries the ledger has, all intact. Raises `LedgerDamaged`."""

    async def close(self) -> None:
        """Let go of the bus; a local one stops."""
