"""The registry: admits a contract version only with proof, away from the orchestrator, which only records.

Registration is compare-and-set: the proof was made against one revision of what is registered, and the ledger takes it only at that
revision. Where somebody else was faster, the proof is made again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from interlock.schemas.registry.builtin import builtin
from interlock.schemas.registry.catalog import Catalog

Call = Callable[..., Awaitable[Any]]


class Registry:
    """Proves. `call("contracts_since", revision)` and `call("admit", ...)` reach the ledger's side (`orchestrator/service.py`)."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._catalog = Catalog()
        self._revision = 0
        self._one_at_a_time = asyncio.Lock()
        for name, version, schema in builtin():
            self._catalog.restore(name, version, schema)

    async def register(self, contract: str, version: str, schema: dict[str, Any], by: str) -> bool:
        """Admit one version, durably; false where exactly this one is known. Raises what refuses it."""
        async with self._one_at_a_time:
            while True:
                await self._catch_up()
                if not await asyncio.to_thread(self._catalog.register, contract, version, schema):
                    return False
                if await self._call("admit", contract, version, schema, by, self._revision):
                    self._revision += 1
                    return True
                self._catalog.withdraw(contract, version)

    async def _catch_up(self) -> None:
        for contract, version, schema in await self._call("contracts_since", self._revision):
            self._catalog.restore(contract, version, schema)
            self._revision += 1
