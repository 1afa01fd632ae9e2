"""The supervisor's actor: budgets, orders and pools, on Ray. It waits for nobody; Ray starts it again, and it reads where it stood."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journals import open_journal
from interlock.clock import SystemClock
from interlock.cluster.calls import Unreachable, answers, ask, insist
from interlock.cluster.code import Code
from interlock.cluster.config import ORCHESTRATOR, BusConfig
from interlock.cluster.peer import make_wardens
from interlock.cluster.ports import UNVERIFIED, Handle, RayHosts, RayOrders, RayProcesses, budget_calls
from interlock.cluster.process import begin
from interlock.cluster.spawner import RaySpawner
from interlock.cluster.store import write_code
from interlock.schemas.errors import LedgerStalled, StorePaused
from interlock.schemas.needs import Needs
from interlock.schemas.ports import PeerGone, Stall, stall_to_wire
from interlock.schemas.stops import Selection

_LOG = logging.getLogger("interlock.supervisor")

WATCH_SECONDS = 0.5
NODE_SECONDS = 30.0
"""How long a peer may take to say that it lives after a node has gone."""
GONE = "it is not on the cluster any more"
KINDS = {"runners": "runner", "models": "models"}


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class SupervisorActor:
    """One incarnation of the supervisor. It begins by itself, also when nobody calls; a call that comes before finds it begun."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._supervisor: Supervisor | None = None
        self._handles: dict[str, Handle] = {}
        self._known_wardens: dict[str, Handle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stalled: tuple[Stall, StorePaused] | None = None
        self._begun = asyncio.Event()
        begin("interlock-supervisor")
        self._background(self._live())
        self._background(self._watch())

    def _background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self) -> None:
        """One incarnation after the other, while all that ends them is a journal that cannot be written for a while: on a full disk no
        process may be able to start."""
        try:
            while True:
                try:
                    await self._incarnation()
                except StorePaused as pause:
                    self._pause(pause)
                    await asyncio.sleep(WATCH_SECONDS)
        except Exception:  # noqa: BLE001 - whatever it is, only a new process is right again
            _LOG.exception("this supervisor is over; another one starts from the journal")
            await asyncio.sleep(WATCH_SECONDS)
            os._exit(1)

    async def _incarnation(self) -> None:
        """Open the journal and work until it fails."""
        clock = SystemClock()
        # Beside the loop: a database that is away may take its time to say so, and whoever calls meanwhile shall hear that.
        journal = await asyncio.to_thread(open_journal, self._config.journal, clock, Path(self._config.home))
        with closing(journal):
            world = World(
                RayOrders(self._orchestrator),
                RayHosts(self._incarnations, self._handle, self._lose),
                RayProcesses(self._wardens),
                RaySpawner(self._config, self._handles, self._wardens),
                self._leave,
                self._joined,
                self._loads,
            )
            self._supervisor, self._stalled = Supervisor(journal, clock, world), None
            self._begun.set()
            await self._supervisor.run()

    def _pause(self, pause: StorePaused) -> None:
        if self._stalled is None:
            _LOG.warning("%s", pause)
        since = self._stalled[0].since if self._stalled is not None else SystemClock().now()
        self._supervisor, self._stalled = None, (Stall(since, pause.problem), pause)
        self._begun.set()

    async def _here(self) -> Supervisor:
        """The current incarnation. Raises `StorePaused` where there is none for now."""
        await self._begun.wait()
        if self._supervisor is None:
            assert self._stalled is not None, "begun is one or the other"
            raise StorePaused(**self._stalled[1].facts)
        return self._supervisor

    async def _watch(self) -> None:
        """Keep the wardens awake; a node that has come gets one. One that has gone took with it who could say that its peers are lost."""
        while True:
            try:
                before, self._known_wardens = self._known_wardens, make_wardens(self._config)
                for warden in self._known_wardens.values():
                    warden.start.remote()
                if before.keys() - self._known_wardens.keys():
                    for incarnation in self._incarnations():
                        self._background(self._look_after(incarnation))
            except (RayError, OSError, ValueError, RuntimeError):
                _LOG.warning("the nodes cannot be looked at", exc_info=True)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_after(self, incarnation: str) -> None:
        """Whether it went with its node. One that works and does not answer is left to who waits for its answers."""
        with suppress(TimeoutError, StorePaused):
            async with asyncio.timeout(NODE_SECONDS):
                while True:
                    try:
                        await ask(self._handle(incarnation).ready)
                        return
                    except PeerGone:
                        self._lose(incarnation, "its node has gone")
                        return await self._announce_end(incarnation)
                    except Unreachable:
                        await asyncio.sleep(WATCH_SECONDS)

    # --- whom it reaches -----------------------------------------------------------------------------------------------------------

    def _orchestrator(self) -> Handle:
        return ray.get_actor(ORCHESTRATOR, namespace=self._config.name)

    def _wardens(self) -> list[Handle]:
        """The wardens of all nodes, as `_watch` saw them last."""
        if not self._known_wardens:
            self._known_wardens = make_wardens(self._config)
        return list(self._known_wardens.values())

    def _handle(self, incarnation: str) -> Handle:
        if incarnation not in self._handles:
            try:
                self._handles[incarnation] = ray.get_actor(incarnation, namespace=self._config.name)
            except ValueError as error:
                raise PeerGone(str(error)) from None
        return self._handles[incarnation]

    def _incarnations(self) -> list[str]:
        return self._supervisor.pools.incarnations() if self._supervisor is not None else []

    def _lose(self, incarnation: str, why: str) -> None:
        self._handles.pop(incarnation, None)
        if self._supervisor is not None:
            self._supervisor.pools.lost(incarnation, why)

    async def _leave(self, incarnation: str) -> None:
        await ask(self._orchestrator().leave, incarnation)

    async def _loads(self) -> dict[str, Demand]:
        return {pool: Demand(*load) for pool, load in (await ask(self._orchestrator().call, "loads")).items()}

    async def _bury(self, incarnation: str) -> None:
        """End what may be left of it. The orchestrator hears that it has ended once that is seen: who hangs may write yet."""
        if await self._end(incarnation):
            await self._announce_end(incarnation)

    async def _announce_end(self, incarnation: str) -> None:
        with suppress(PeerGone, Unreachable, ValueError):  # an orchestrator that is not there asks for all peers when it is
            await ask(self._orchestrator().left, incarnation)

    def _joined(self, pool: str, incarnation: str) -> None:
        self._background(self._introduce(pool, incarnation))

    async def _introduce(self, pool: str, incarnation: str) -> None:
        try:
            handle = self._handle(incarnation)
        except PeerGone:
            with suppress(StorePaused):  # this incarnation of ours is over too, and the next one introduces everybody
                self._lose(incarnation, GONE)
            return
        try:
            await insist(self._orchestrator().join, incarnation, KINDS.get(pool, "replica"), pool, handle)
        except (PeerGone, ValueError, LedgerStalled):
            _LOG.info("there is no orchestrator that %s could join; one that comes asks for all peers", incarnation)

    # --- what it is asked ------------------------------------------------------------------------------------------------------------

    @answers
    async def ping(self) -> int:
        """Its process id, once it works."""
        await self._here()
        return os.getpid()

    @answers
    async def budgets(self, calls: list[list[Any]]) -> list[list[Any]]:
        """A batch of calls of `Budgets`, durable together; per call its result or wire error."""
        return await budget_calls((await self._here()).budgets.together, calls)

    @answers
    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> dict[str, Any]:
        """Stop a task by the whole ladder; its receipt."""
        return asdict(await (await self._here()).ladder.kill(task, by, why, undo))

    @answers
    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> dict[str, Any]:
        """Stop what a selection names, or open it again; the receipt."""
        return asdict(await (await self._here()).ladder.stop(id, what, selection, by, why, undo))

    @answers
    async def lost(self, incarnation: str, why: str) -> None:
        """It has ended, or it hangs and is given up: then its process ends now, and so does whatever it left behind."""
        await self._here()
        self._lose(incarnation, why)
        self._background(self._bury(incarnation))

    @answers
    async def spent(self, incarnation: str, why: str) -> None:
        """It has done the one thing that it was for, or fails, and is replaced."""
        (await self._here()).pools.spent(incarnation, why)

    @answers
    async def inquire(self, incarnation: str, tasks: list[str]) -> tuple[dict[str, float], str]:
        """What a peer is doing, or was doing when it ended, by its board; see `Inquest`."""
        return await RayProcesses(self._wardens).inquire(incarnation, tasks)

    @answers
    async def gone(self, incarnation: str) -> bool:
        """Whether a warden has seen that nothing is left of a process that has ended; what is left is ended first."""
        return await self._end(incarnation)

    async def _end(self, incarnation: str) -> bool:
        try:
            return (await RayProcesses(self._wardens).end([incarnation]))[incarnation] != UNVERIFIED
        except Unreachable:
            _LOG.warning("no warden can end what may be left of %s", incarnation, exc_info=True)
            return False

    @answers
    async def deploy(self, code: Code, pools: dict[str, tuple[int, int]], secrets: dict[str, list[str]], needs: dict[str, Needs]) -> None:
        """Keep an app's code, and what its agents' replicas need, and have a pool of each of its agents, and those that every app needs."""
        here = await self._here()
        write_code(self._config.home, code, secrets, needs)
        for pool, bounds in pools.items():
            here.pools.declare(pool, KINDS.get(pool, "replica"), *bounds)

    @answers
    async def born(self, pools: list[str]) -> None:
        """Return once each of these pools has a member that is ready for work. Raises `NotBorn`."""
        await asyncio.gather(*map((await self._here()).pools.first, pools))

    @answers
    async def pressed(self) -> None:
        """Something waits for a member of some pool."""
        (await self._here()).pools.pressed()

    @answers
    async def scale(self, pool: str, size: int | None) -> None:
        """Pin a pool to another size, or let it follow its load again; durable on return. Raises `UnknownAgent`."""
        (await self._here()).pools.scale(pool, size)

    @answers
    async def peers(self) -> list[tuple[str, str, str, Handle]]:
        """All that may have work, with their handles, for a new orchestrator; whoever has no process any more is left out."""
        await self._here()
        found = []
        for name in self._incarnations():
            pool = name.rpartition("-")[0]
            try:
                found.append((name, KINDS.get(pool, "replica"), pool, self._handle(name)))
            except PeerGone:
                self._lose(name, GONE)
        return found

    @answers
    async def status(self) -> dict[str, Any]:
        """The members of each pool, how it stands, what is stopped, and whether the journal can be written, and in time: also while it
        cannot."""
        await self._begun.wait()
        pools: dict[str, list[str]] = {}
        for name in self._incarnations():
            pools.setdefault(name.rpartition("-")[0], []).append(name)
        slow = self._supervisor.slow if self._supervisor is not None else None
        states = self._supervisor.pools.states() if self._supervisor is not None else {}
        keeping = {name: state._asdict() for name, state in states.items()}
        journal = stall_to_wire(self._stalled[0]) if self._stalled is not None else stall_to_wire(slow, "slow")
        stops = self._supervisor.status() if self._supervisor is not None else {"stops": [], "orders": []}
        return {"pools": pools, "keeping": keeping, "journal": journal, **stops}
