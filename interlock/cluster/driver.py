"""A driver's way to a bus on Ray: `connect` to a running one, or `start` one on a Ray of its own, for as long as its handle is open."""

import os
from pathlib import Path

import ray

from interlock.aio import AsyncBus
from interlock.app import App
from interlock.cluster import head
from interlock.cluster.backend import ClusterBackend
from interlock.cluster.code import code_of
from interlock.cluster.config import DEFAULT_NAME
from interlock.schemas.errors import NotRunning
from interlock.schemas.ids import fresh
from interlock.schemas.places import LEDGER_FILE, ledger_in
from interlock.settings import ModelSettings, home


async def connect(address: str | None = None, *, name: str | None = None) -> AsyncBus:
    """A handle on the bus called `name`; without an address on the one that `interlock up` started from this folder."""
    where = head.noted(home())
    if address is None:
        if where is None:
            raise NotRunning(address=str(home()))
        address = str(where["address"])
    ours = where is not None and where["address"] == address and name in (None, where["name"])
    name = str(where["name"]) if where is not None and ours else name or DEFAULT_NAME
    head.connect(address, name)
    return AsyncBus(ClusterBackend(name, address, home=home() if ours else None))


async def start(app: App, *, model: ModelSettings | None = None, folder: Path | None = None, name: str | None = None) -> AsyncBus:
    """A bus for `app` on a local Ray. `model`: where the models are (default: the environment); `folder` keeps ledger and journal
    (default: a new one below `.interlock/runs`, with the ledger where `INTERLOCK_LEDGER` says). Raises `NoModel`, `BadDeclaration`."""
    from interlock import launch, lint

    lint.warn(app)
    model = launch.model_for(app, model or ModelSettings.from_env())
    name = name or fresh("bus")
    ledger = None if folder else ledger_in(os.environ)
    folder = folder or home() / "runs" / name
    made = head.connect("local", name, num_cpus=max(16, os.cpu_count() or 1), include_dashboard=False)

    async def stop() -> None:
        await launch.remove(name)
        if made:
            ray.shutdown()

    try:
        await launch.place(app, code_of(app), name=name, home=folder, model=model, ledger=ledger or folder / LEDGER_FILE)
    except BaseException:
        await stop()
        raise
    return AsyncBus(ClusterBackend(name, "local", stop, folder))
