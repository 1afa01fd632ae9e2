"""`Backend` over a cluster: a driver's calls to the orchestrator, the supervisor and the registry."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import ray

from interlock.backend import Wire, check_not_ended
from interlock.cluster.calls import Unreachable, insist
from interlock.cluster.config import ORCHESTRATOR, REGISTRY, SUPERVISOR
from interlock.orchestrator.admission import Submission
from interlock.schemas.errors import NotRunning

CALL_SECONDS = 30.0
"""How long a call is made again while its actor is being started again."""

KILL_SECONDS = 60.0

CHECK_SECONDS = 2.0
"""How long a kill waits for the orchestrator to say whether there is such a task."""

_LOG = logging.getLogger("interlock.cluster")


class ClusterBackend:
    """The bus called `name` on the cluster that this process is connected to. `stop` ends what was started with it."""

    def __init__(self, name: str, address: str, stop: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._address, self._stop = address, stop
        try:
            self._orchestrator = ray.get_actor(ORCHESTRATOR, namespace=name)
            self._supervisor = ray.get_actor(SUPERVISOR, namespace=name)
            self._registry = ray.get_actor(REGISTRY, namespace=name)
        except ValueError:
            raise NotRunning(address=f"{address} under the name {name}") from None

    async def _insist(self, method: Any, *args: Any, seconds: float = CALL_SECONDS) -> Any:
        try:
            return await insist(method, *args, seconds=seconds)
        except Unreachable:
            raise NotRunning(address=self._address) from None

    async def _call(self, method: str, *args: Any) -> Any:
        return await self._insist(self._orchestrator.call, method, *args)

    async def submit(self, submissions: Sequence[Submission]) -> list[Wire | None]:
        answers: list[Wire | None] = await self._insist(self._orchestrator.submit, submissions)
        return answers

    async def outcomes(self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float) -> dict[str, Wire] | None:
        ends: dict[str, Wire] | None = await self._insist(self._orchestrator.outcomes, driver, fresh, got, first, seconds)
        return ends

    async def entries(self, task: str, after: int, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
        found: tuple[list[tuple[Any, ...]], bool] = await self._insist(self._orchestrator.entries, task, after, seconds)
        return found

    async def record(self, task: str) -> Wire:
        record: Wire = await self._call("record", task)
        return record

    async def tasks(self, limit: int, state: str | None) -> list[Wire]:
        rows: list[Wire] = await self._call("tasks", limit, state)
        return rows

    async def inbox(self, open_only: bool) -> list[Wire]:
        rows: list[Wire] = await self._call("inbox", open_only)
        return rows

    async def decide(self, item: str, approve: bool, by: str, note: str) -> None:
        await self._call("decide", item, approve, by, note)

    async def register(self, contract: str, version: str, schema: Wire, by: str) -> bool:
        new: bool = await self._insist(self._registry.register, contract, version, schema, by)
        return new

    async def contracts(self) -> list[Wire]:
        rows: list[Wire] = await self._call("contracts")
        return rows

    async def kill(self, task: str, by: str, why: str) -> Wire:
        await self._check_kill(task)
        receipt: Wire = await self._insist(self._supervisor.kill, task, by, why, seconds=KILL_SECONDS)
        return receipt

    async def _check_kill(self, task: str) -> None:
        """A mistyped or ended task is said so at once; where the orchestrator does not answer, the kill goes on without it."""
        try:
            check_not_ended(await asyncio.wait_for(self.record(task), CHECK_SECONDS))
        except (TimeoutError, NotRunning):
            _LOG.warning("the orchestrator does not answer; %s is killed without it", task)

    async def used(self, task: str) -> dict[str, tuple[Any, Any, Any]]:
        ((ok, used),) = await self._insist(self._supervisor.budgets, [("used", task)])
        return dict(used) if ok else {}

    async def scale(self, agent: str, replicas: int) -> None:
        await self._call("check_scale", agent, replicas)
        await self._insist(self._supervisor.scale, agent, replicas)

    async def status(self) -> Wire:
        status, pools = await asyncio.gather(self._call("status"), self._insist(self._supervisor.pools))
        return {**status, "pools": pools}

    async def verify(self) -> int:
        count: int = await self._call("verify")
        return count

    async def close(self) -> None:
        if self._stop is not None:
            await self._stop()
