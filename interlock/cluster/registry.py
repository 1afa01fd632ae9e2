"""The registry's actor: a thin front of `actors/registry.py`, which does the proving away from the orchestrator."""

from typing import Any

import ray

from interlock.actors.registry import Registry
from interlock.cluster.calls import answers, insist
from interlock.cluster.config import ORCHESTRATOR, BusConfig
from interlock.cluster.process import begin


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class RegistryActor:
    """The one registry of a bus. What it has admitted is in the ledger; it reads it from there whenever it starts."""

    def __init__(self, config: BusConfig) -> None:
        orchestrator = ray.get_actor(ORCHESTRATOR, namespace=config.name)

        async def call(method: str, *args: Any) -> Any:
            return await insist(orchestrator.call, method, *args)

        self._registry = Registry(call)
        begin("interlock-registry")

    @answers
    async def register(self, contract: str, version: str, schema: dict[str, Any], by: str) -> bool:
        return await self._registry.register(contract, version, schema, by)
