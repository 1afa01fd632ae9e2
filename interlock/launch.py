"""Launching: puts a bus on a Ray cluster, and takes it away again.

`up` without an address starts a Ray of its own, which outlives this process; its environment is allow-listed, so no secret of the
caller's shell lies in a worker. Orchestrator, supervisor, registry and models are pinned to the node of the ledger.
"""

import asyncio
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from interlock import hosts, lint
from interlock.actors.supervisor import journals
from interlock.app import App
from interlock.clock import SystemClock
from interlock.cluster import head
from interlock.cluster.calls import insist
from interlock.cluster.code import Code, code_at
from interlock.cluster.config import (
    CHECKPOINTS,
    DEFAULT_NAME,
    MODEL_KEY,
    ORCHESTRATOR,
    REGISTRY,
    SUPERVISOR,
    WARDEN,
    BusConfig,
    private_folder,
    write_secrets,
)
from interlock.cluster.orchestrator import OrchestratorActor
from interlock.cluster.peer import make_wardens
from interlock.cluster.registry import RegistryActor
from interlock.cluster.supervisor import SupervisorActor
from interlock.loading import load_app
from interlock.orchestrator.ledger import stores
from interlock.proving import prove_migrations
from interlock.schemas.errors import AlreadyRunning, InterlockError, NoLedger, NotBorn, NotRunning
from interlock.schemas.places import JOURNAL_FILE, LEDGER_FILE, LEDGER_VARIABLE, Database, Place
from interlock.schemas.ports import PeerGone
from interlock.schemas.specs import MODELS, OWN_BOUNDS, RUNNERS
from interlock.settings import ModelSettings, checkpoint_place, ledger_of
from interlock.tools.scratch import remove_abandoned

TRUSTED = (ORCHESTRATOR, SUPERVISOR, REGISTRY)
READY_SECONDS = 120.0
REMOVE_SECONDS = 15.0
SEAL_SECONDS = 3.0


def up(target: str | None, *, address: str | None, name: str | None, home: Path) -> dict[str, Any]:
    """Start a bus with the app at `target`, on the Ray at `address` or on one that is started here; it outlives this process.

    The ledger in `home` is made if there is none; else its tasks go on. Raises `AlreadyRunning`, `NoModel`, `BadDeclaration`.
    """
    name = name or DEFAULT_NAME
    app = load_app(target) if target is not None else App("empty")
    lint.warn(app)
    prove_migrations(app)
    hosts.secrets_of(app, os.environ)
    model = model_for(app, ModelSettings.from_env())
    private_folder(home)
    if head.running(home) is not None:
        raise AlreadyRunning(name=name)
    if address is None:
        _make_stores(home, ledger_of(home))  # one that cannot be opened is said before anything is started
    where = head.start(home) if address is None else address
    try:
        head.connect(where, name)
        asyncio.run(
            place(app, code_at(target) if target is not None else Code(), name=name, home=home, model=model, ledger=ledger_of(home))
        )
    except BaseException as error:
        if address is None:
            head.stop(home)
        elif ray.is_initialized() and not isinstance(error, AlreadyRunning):  # then the actors of that name are somebody else's
            asyncio.run(remove(name))
        raise
    head.note(home, address=where, name=name, own=address is None)
    return {"address": where, "name": name, "home": str(home), "app": app.name, "agents": sorted(app.agents)}


def down(*, name: str | None, home: Path) -> dict[str, Any]:
    """Stop the bus, and the Ray that `up` started for it; of another bus on the same Ray, by its `name`, that bus alone. Accepted tasks are
    kept: the next `up` goes on with them."""
    where = head.noted(home)
    if where is None:
        raise NotRunning(address=str(home))
    name, ours = name or str(where["name"]), not name or name == where["name"]
    stopped: list[str] = []
    with contextlib.suppress(NotRunning):
        head.connect(where["address"], name)
        stopped = asyncio.run(remove(name))
        ray.shutdown()
    if not ours:
        if not stopped:
            raise NotRunning(address=f"{where['address']} under the name {name}")
        return {"stopped": stopped}
    if where["own"]:
        head.stop(home)
        stopped.append("ray")
    head.forget(home)
    return {"stopped": stopped}


def model_for(app: App, model: ModelSettings) -> ModelSettings:
    """The settings, checked where an agent of the app needs them. Raises `NoModel`."""
    needing = [agent for agent in app.agents.values() if agent.function is None and not agent.model]
    return model.required() if needing else model


async def place(app: App, code: Code, *, name: str, home: Path, model: ModelSettings, ledger: Place) -> None:
    """Make the actors of a bus on the connected cluster and deploy the app on it."""
    secrets = hosts.secrets_of(app, os.environ)
    private_folder(home)
    _make_stores(home, ledger)
    database = {LEDGER_VARIABLE: ledger.url} if isinstance(ledger, Database) else {}
    write_secrets(home, {**secrets, MODEL_KEY: model.api_key, CHECKPOINTS: checkpoint_place(), **database})
    node = ray.get_runtime_context().get_node_id()
    config = BusConfig(name, str(home), str(run_dir(home, name)), node, _public(model))
    make_wardens(config)
    supervisor = _make(SupervisorActor, config, SUPERVISOR, node)
    orchestrator = _make(OrchestratorActor, config, ORCHESTRATOR, node)
    registry = _make(RegistryActor, config, REGISTRY, node)
    await insist(orchestrator.ping, seconds=READY_SECONDS)
    spec = app.spec()
    await insist(orchestrator.call, "check_deploy", spec.to_wire())
    for ref, schema in spec.schemas.items():
        contract, version = ref.split(" ")
        await insist(registry.register, contract, version, schema, "deploy")
    vanished = await insist(orchestrator.call, "deploy", spec.to_wire(), "deploy")
    pools = _pools(app)
    await insist(supervisor.deploy, code, {**dict.fromkeys(vanished, (0, 0)), **pools}, hosts.declared_secrets(app), hosts.needs_of(app))
    try:
        async with asyncio.timeout(READY_SECONDS):
            await insist(supervisor.born, list(pools))
    except TimeoutError:
        raise NotBorn(pool=" or ".join(pools), problem=f"nothing was heard of it for {READY_SECONDS:g} s") from None


def _make(actor: Any, config: BusConfig, name: str, node: str) -> Any:
    """A named, detached actor of the trusted base on that node."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        return actor.options(name=name, namespace=config.name, lifetime="detached", scheduling_strategy=strategy).remote(config)
    except ValueError:
        raise AlreadyRunning(name=config.name) from None


def _pools(app: App) -> dict[str, tuple[int, int]]:
    pools = {RUNNERS: OWN_BOUNDS} if app.workflows else {}
    if any(agent.function is None for agent in app.agents.values()):
        pools[MODELS] = OWN_BOUNDS
    return pools | {agent.name: agent.spec.replicas for agent in app.agents.values()}


def _make_stores(home: Path, ledger: Place) -> None:
    """The ledger and the supervisor's journal, where they are not there yet, in the layout of this code. Nobody else ever makes one."""
    stores.prepare(ledger)
    if isinstance(ledger, Database) and (home / LEDGER_FILE).exists() and stores.is_empty(ledger):
        raise NoLedger(
            path=str(ledger),
            problem=f"it is empty, and the bus of this folder has its ledger in {home / LEDGER_FILE}: its tasks would stay behind",
            remedy="Unset INTERLOCK_LEDGER, or take it along with `interlock ledger backup` and `restore`, or name another INTERLOCK_HOME.",
        )
    journals.prepare(ledger if isinstance(ledger, Database) else home / JOURNAL_FILE, SystemClock())


def _public(model: ModelSettings) -> ModelSettings:
    """The settings that every actor may know: without the key."""
    return ModelSettings(base_url=model.base_url, model=model.model, prices=model.prices, rates=model.rates, bounds=model.bounds)


def run_dir(home: Path, name: str) -> Path:
    """The folder of the boards: the same path on every node, in memory where the system has such a place."""
    shared = Path("/dev/shm")
    base = shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(f"{home}\x1f{name}".encode()).hexdigest()[:12]
    return base / f"interlock-{os.getuid()}-{digest}"


async def remove(name: str) -> list[str]:
    """End every actor of a bus and the processes below them; what was stopped. Nothing that was acknowledged is lost."""
    named = ray.util.list_named_actors(all_namespaces=True)
    names = [one["name"] for one in named if one["namespace"] == name]
    wardens = [one for one in names if one.startswith(WARDEN)]
    if ORCHESTRATOR in names:
        with contextlib.suppress(ValueError, OSError, PeerGone, InterlockError):  # one that cannot any more holds up nobody
            await insist(ray.get_actor(ORCHESTRATOR, namespace=name).call, "seal", seconds=SEAL_SECONDS)
    peers = [one for one in names if one not in TRUSTED and one not in wardens]
    for one in TRUSTED:
        _kill(one, name)
    # Ray ends a process, not its children: they go first, while it is known whose they are; then what has left its tree.
    await asyncio.gather(*(_tell(warden, name, "end_children", peers) for warden in wardens))
    for one in peers:
        _kill(one, name)
    await asyncio.gather(*(_tell(warden, name, "end", peers) for warden in wardens))
    for warden in wardens:
        _kill(warden, name)
    await asyncio.to_thread(remove_abandoned)
    return names


async def _tell(warden: str, name: str, method: str, peers: list[str]) -> None:
    with contextlib.suppress(ValueError, OSError, PeerGone):  # one that is frozen or gone holds up nobody
        await insist(getattr(ray.get_actor(warden, namespace=name), method), peers, seconds=REMOVE_SECONDS)


def _kill(actor: str, name: str) -> None:
    with contextlib.suppress(ValueError):
        ray.kill(ray.get_actor(actor, namespace=name), no_restart=True)
