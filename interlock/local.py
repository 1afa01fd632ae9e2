"""A bus in one process, without Ray: for a user's own tests, and for small jobs that need no cluster.

`LocalBus` and `AsyncBus.local` run the same engine, supervisor, runners, replicas and gateway as a cluster does. What needs processes of
its own cannot be had here: a busy loop stops everything, and a tool's thread that a kill finds goes on until it returns, as the receipt
says.
"""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from interlock.actors.models.wire import Wire as ModelWire
from interlock.actors.supervisor.core import Supervisor
from interlock.aio import AsyncBus
from interlock.app import App
from interlock.assembly import Assembly
from interlock.backend import Wire
from interlock.bus import Bus
from interlock.clock import SystemClock
from interlock.hosts import model_wire
from interlock.schemas.places import ledger_in
from interlock.schemas.stops import Selection
from interlock.settings import ModelSettings, home
from interlock.telemetry import setup


class LocalBackend:
    """`Backend` over an assembly: the service of its current engine, and its supervisor."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self._assembly.service, name):
            raise AttributeError(name)
        return partial(self._assembly.ask, name)

    async def status(self) -> Wire:
        return {**await self._assembly.ask("status"), "keeping": self._keeping(), **self._assembly.supervisor_status()}

    def _keeping(self) -> Wire:
        """How each pool stands; nothing where the supervisor is over and the next one has not begun."""
        if self._assembly.journal_stalled is not None:
            return {}
        return {name: state._asdict() for name, state in self._assembly.supervisor.pools.states().items()}

    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> Wire:
        return asdict(await self._assembly.kill(task, by, why, undo))

    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> Wire:
        return asdict(await self._assembly.stop(id, what, selection, by, why, undo))

    async def register(self, contract: str, version: str, schema: Wire, by: str) -> bool:
        return await self._assembly.registry.register(contract, version, schema, by)

    async def used(self, task: str) -> dict[str, tuple[Any, Any, Any]]:
        return await self._assembly.ask_supervisor(lambda supervisor: supervisor.budgets.used(task))

    async def scale(self, agent: str, replicas: int | None) -> None:
        await self._assembly.ask("check_scale", agent, replicas)

        async def scale(supervisor: Supervisor) -> None:
            supervisor.pools.scale(agent, replicas)

        await self._assembly.ask_supervisor(scale)

    async def close(self) -> None:
        await self._assembly.close()


async def start(app: App, *, model: ModelSettings | None = None, wire: ModelWire | None = None, folder: Path | None = None) -> AsyncBus:
    """A bus for `app`; `AsyncBus.local` has the words. `wire` takes the place of the way to the models in tests."""
    setup("interlock")
    model = model or ModelSettings.from_env()
    database = None if folder else ledger_in(os.environ)
    place = home() if database else folder
    assembly = Assembly(app, SystemClock(), wire=wire or model_wire(app, model), model=model, folder=place, database=database)
    await assembly.start()
    return AsyncBus(LocalBackend(assembly))


class LocalBus(Bus):
    """A bus in this process, without Ray: `with LocalBus(app) as bus: ...`. `model`: where the models are (default: the environment);
    `folder` keeps ledger and journal on disk (default: in memory, or in the database that `INTERLOCK_LEDGER` names).
    Raises `NoModel` where an agent needs a model and none is configured."""

    def __init__(self, app: App, *, model: ModelSettings | None = None, folder: Path | None = None) -> None:
        super().__init__(lambda: start(app, model=model, folder=folder))
