"""Makes peers as Ray actors, and ends them by the warden: `ray.kill` alone leaves their children alive.

Ray places an actor where a node has what it needs, and waits in silence where none has: what it waits for is said here.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from interlock.cluster.calls import ask
from interlock.cluster.config import BusConfig, read_secrets
from interlock.cluster.peer import PeerActor
from interlock.cluster.ports import Handle, RayProcesses
from interlock.cluster.room import lacking
from interlock.cluster.store import read_code
from interlock.schemas.needs import Needs

_LOG = logging.getLogger("interlock.supervisor")

LOOK_SECONDS = 2.0
"""How long an actor may be without a process before it is looked what it waits for."""


class RaySpawner:
    """`Spawner` on Ray. `handles` are those of the peers, by incarnation."""

    def __init__(self, config: BusConfig, handles: dict[str, Handle], wardens: Any) -> None:
        self._config, self._handles = config, handles
        self._processes = RayProcesses(wardens)
        self._waiting: dict[str, str] = {}

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        code, declared, needs = read_code(self._config.home)
        needed = needs.get(pool, Needs())
        secrets = read_secrets(self._config.home, declared.get(pool, []))
        options = {"name": incarnation, "namespace": self._config.name, "lifetime": "detached", **self._place(kind, needed)}
        actor = PeerActor.options(**options)  # type: ignore[attr-defined]
        handle = actor.remote(self._config, kind, pool, incarnation, code, secrets)
        await self._placed(handle, incarnation, needed)
        self._waiting.pop(incarnation, None)
        await ask(handle.ready)
        self._handles[incarnation] = handle

    def _place(self, kind: str, needs: Needs) -> dict[str, Any]:
        if kind == "models":  # they read the key from the ledger's node
            return {"scheduling_strategy": NodeAffinitySchedulingStrategy(self._config.node, soft=False)}
        if kind == "runner":  # sets of strings iterate alike in every runner
            return {"runtime_env": {"env_vars": {"PYTHONHASHSEED": "0"}}}
        place: dict[str, Any] = {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus, "resources": dict(needs.custom)}
        if needs.memory:
            place["memory"] = needs.memory
        return place | ({"runtime_env": dict(needs.runtime_env)} if needs.runtime_env else {})

    async def _placed(self, handle: Handle, incarnation: str, needs: Needs) -> None:
        """Return once it has a process; until then what it waits for is known."""
        placed = asyncio.ensure_future(ask(handle.placed))
        try:
            while not (await asyncio.wait({placed}, timeout=LOOK_SECONDS))[0]:
                self._waiting[incarnation] = await asyncio.to_thread(_look, needs)
            await placed
        finally:
            placed.cancel()

    def waits(self, incarnation: str) -> str:
        return self._waiting.get(incarnation, "")

    async def stop(self, incarnation: str) -> None:
        self._waiting.pop(incarnation, None)
        await self._processes.end([incarnation])
        handle = self._handles.pop(incarnation, None)
        if handle is None:
            # One that never had a process waits for one as long as Ray knows it.
            with suppress(ValueError):
                handle = ray.get_actor(incarnation, namespace=self._config.name)
        if handle is not None:
            ray.kill(handle)


def _look(needs: Needs) -> str:
    """What one waits for that needs this, as Ray's own count shows it now."""
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return lacking(needs.amounts, nodes, ray.available_resources())
    except (RayError, OSError, RuntimeError):
        _LOG.warning("the nodes cannot be looked at", exc_info=True)
        return "waits for its process, and the nodes cannot be looked at"
