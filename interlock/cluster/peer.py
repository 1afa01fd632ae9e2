"""The processes that work: replicas, runners and model gateways, each a Ray actor of its own, and the warden of a node."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from interlock import hosts
from interlock.actors.board import Board
from interlock.actors.mailbox import Mailbox
from interlock.actors.memory import share
from interlock.actors.process import mark_self
from interlock.actors.warden import Warden
from interlock.cluster.calls import answers, outlast
from interlock.cluster.code import Code
from interlock.cluster.config import SUPERVISOR, WARDEN, BusConfig, private_folder, scrub
from interlock.cluster.process import begin
from interlock.schemas.errors import BadDeclaration, InterlockError
from interlock.schemas.words import told


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class PeerActor:
    """One peer process. Its mark and its board are there before user code loads; it is never restarted, only replaced."""

    def __init__(self, config: BusConfig, kind: str, pool: str, incarnation: str, code: Code, secrets: dict[str, str]) -> None:
        mark_self(incarnation)
        self._pool = pool
        self._board = Board.create(private_folder(Path(config.run_dir)), incarnation, share())
        begin(f"interlock-{kind}")
        if kind != "models":
            scrub(os.environ)
        self._make: Callable[[], Mailbox] = partial(self._host_of, config, kind, pool, incarnation, code, secrets)
        self._host: Mailbox | None = None

    def _host_of(self, config: BusConfig, kind: str, pool: str, incarnation: str, code: Code, secrets: dict[str, str]) -> Mailbox:
        if kind == "models":
            from interlock.cluster.gateway import gateway  # the SDK takes a second to load, which nobody else needs

            return gateway(config, incarnation)
        app = code.load()
        self._board.bound(hosts.memory_of(app, kind, pool, share()))
        if kind == "runner":
            return hosts.runner(app, self._board)
        return hosts.replica(app, pool, incarnation, config.model.model, secrets, self._board)

    @answers
    async def placed(self) -> bool:
        """It has a process."""
        return True

    @answers
    async def ready(self) -> bool:
        """Load what there is to load; true when work may come."""
        if self._host is None:
            try:
                self._host = self._make()
            except InterlockError:
                raise
            except Exception as error:  # noqa: BLE001 - user code is loaded here; whoever deployed it is told in words
                raise BadDeclaration(
                    what=f"the app in a process of {self._pool}",
                    problem=f"it cannot be loaded there: {told(error)}",
                    remedy="Make sure that what it imports is found on every node, as it is here.",
                ) from None
        return True

    @answers
    async def exchange(self, request: bytes) -> bytes:
        assert self._host is not None
        return await self._host.exchange(request)

    @answers
    async def cancel(self, tasks: list[str]) -> bool:
        return self._host is None or await self._host.cancel_all(tasks)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class WardenActor:
    """The warden of one node: it sees and ends the processes there, and tells the supervisor of those that ended by themselves."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._warden = Warden(private_folder(Path(config.run_dir)))
        self._watching: asyncio.Task[None] | None = None

    @answers
    async def start(self) -> bool:
        """Begin to watch; may be called again."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return True

    async def _watch(self) -> None:
        supervisor = ray.get_actor(SUPERVISOR, namespace=self._config.name)
        async for incarnation in self._warden.watch():
            await outlast(supervisor.lost, incarnation, self._warden.why(incarnation))

    @answers
    async def holders(self, tasks: list[str]) -> list[str]:
        return await self._warden.holders(tasks)

    @answers
    async def strays(self, tasks: list[str]) -> list[str]:
        return await self._warden.strays(tasks)

    @answers
    async def end(self, incarnations: list[str]) -> dict[str, str]:
        return await self._warden.end(incarnations)

    @answers
    async def inquire(self, incarnation: str, tasks: list[str]) -> tuple[dict[str, float], str] | None:
        return await self._warden.inquire(incarnation, tasks)

    @answers
    async def end_tasks(self, tasks: list[str]) -> str:
        return await self._warden.end_tasks(tasks)

    @answers
    async def end_children(self, incarnations: list[str]) -> None:
        await self._warden.end_children(incarnations)


def make_wardens(config: BusConfig) -> dict[str, Any]:
    """The wardens of all nodes that are there now, by node, made where a node has none yet."""
    wardens = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"name": f"{WARDEN}-{node['NodeID'][:12]}", "namespace": config.name, "lifetime": "detached", "get_if_exists": True}
        wardens[node["NodeID"]] = WardenActor.options(**options, scheduling_strategy=strategy).remote(config)  # type: ignore[attr-defined]
    return wardens
