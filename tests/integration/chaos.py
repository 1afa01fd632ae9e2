"""A shop under fire on Ray: what it does, the world outside that it does it to, and who is struck when.

Everybody may be struck: the trusted base, wardens and registry among it, and every peer. SIGKILL ends a process; SIGSTOP lets it stand
still and come back as a zombie would, after others may have taken its place. The database crashes and recovers in the middle.
"""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray._private import state

from interlock import AgentContext, App, AsyncBus, Budget, Finding, Keyed, Message, Natural, ToolContext, WorkflowContext
from interlock.schemas.errors import AlreadyDecided, AlreadyEnded, NotRunning, OrderStands, StoreAway, SupervisorGone, TryAgain, UnknownItem
from interlock.task import AsyncTask

MOMENT = 0.01
"""How long a tool takes before, and after, it does what it does."""

PLAYBOOK = {
    "rules": [
        {"tool_results": 0, "delay": 0.02, "answer": {"tool_calls": [{"name": "shelve", "arguments": {"order": "{{/order}}"}}]}},
        {"tool_results": 1, "delay": 0.02, "answer": {"json": {"order": "{{/order}}"}}},
    ]
}


class Sale(Message, contract="chaos.sale", version="1.0.0"):
    order: str


class Shelve(Message, contract="chaos.shelve", version="1.0.0"):
    order: str


class Ship(Message, contract="chaos.ship", version="1.0.0"):
    order: str


class Done(Message, contract="chaos.done", version="1.0.0"):
    order: str


class World(NamedTuple):
    """The outside, in a file that every process reaches. It does whatever it is told, as often as it is told."""

    path: Path

    @classmethod
    def made(cls, path: Path) -> "World":
        world = cls(path)
        with world._db() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE deeds (tool TEXT, goods TEXT)")
            db.execute("CREATE TABLE begun (tool TEXT, goods TEXT, at INTEGER)")
        return world

    def begin(self, tool: str, goods: str) -> None:
        self._write("INSERT INTO begun VALUES (?, ?, ?)", tool, goods, time.time_ns() // 1000)

    def do(self, tool: str, goods: str) -> None:
        self._write("INSERT INTO deeds VALUES (?, ?)", tool, goods)

    def happened(self, tool: str, goods: str) -> bool:
        return bool(self.read("SELECT 1 FROM deeds WHERE tool = ? AND goods = ?", tool, goods))

    def read(self, query: str, *values: Any) -> list[Any]:
        with self._db() as db:
            return db.execute(query, values).fetchall()

    def _write(self, statement: str, *values: Any) -> None:
        with self._db() as db, db:
            db.execute(statement, values)

    def _db(self) -> Any:
        return closing(sqlite3.connect(self.path, timeout=30))


def make_app(world: World) -> App:
    app = App("chaos")

    async def shipped(order: str) -> Finding:
        """Look at the dock whether an order has left it."""
        return Finding.happened(order) if world.happened("ship", order) else Finding.not_happened()

    @app.tool(effect="write", system="dock", repeat=Keyed("order", probe=shipped))
    async def ship(order: str, ctx: ToolContext) -> str:
        """Ship an order. The dock ships whatever it is told; it can be looked at.

        Args:
            order: The order.
        """
        world.begin("ship", order)
        await asyncio.sleep(MOMENT)
        world.do("ship", order)
        await asyncio.sleep(MOMENT)
        return order

    @app.tool(effect="write", system="shelf", repeat=Natural("order"), trusted="ours")
    async def shelve(order: str) -> str:
        """Put an order on its shelf.

        Args:
            order: The order.
        """
        world.begin("shelve", order)
        await asyncio.sleep(MOMENT)
        return order

    @app.agent("shipping", version="1.0.0", tools=[ship], replicas=(2, 2))
    async def shipping(request: Ship, ctx: AgentContext) -> Done:
        return Done(order=await ctx.call(ship, order=request.order))

    app.agent("clerk", version="1.0.0", accepts=Shelve, returns=Done, instructions="Put the order on its shelf.", tools=[shelve])

    @app.workflow("sale", version="1.0.0", budget=Budget(tokens=40_000, steps=30, seconds=200, writes={"dock": 1, "shelf": 3}))
    async def sale(request: Sale, ctx: WorkflowContext) -> Done:
        await ctx.ask(Shelve(order=request.order), returns=Done)
        await ctx.sleep(0.05)
        return await ctx.ask(Ship(order=request.order), returns=Done)

    @app.workflow("question", version="1.0.0", budget=Budget(steps=5))
    async def question(request: Sale, ctx: WorkflowContext) -> Done:
        answer = await ctx.ask_human(f"What about {request.order}?", about=request.order)
        return Done(order=f"{request.order}: {answer.note}")

    return app


class Strikes:
    """Somebody every second or so, by chance alone. `told` says who and how."""

    def __init__(self, seed: int, name: str, restart_database: Callable[[], None]) -> None:
        self.told: list[str] = []
        self._random, self._name, self._restart = random.Random(f"chaos {seed}"), name, restart_database
        self._stopped: set[int] = set()

    async def blow(self, seconds: float) -> None:
        loop, chance = asyncio.get_running_loop(), self._random
        end, database = loop.time() + seconds, loop.time() + seconds * chance.uniform(0.2, 0.8)
        standing: list[asyncio.Task[None]] = []
        while loop.time() < end:
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            if database is not None and loop.time() > database:
                database = None
                self.told.append("the database crashes")
                standing.append(loop.create_task(asyncio.to_thread(self._restart)))
            else:
                standing.append(loop.create_task(self._strike(chance.choice(self._kinds()), chance.random(), chance.uniform(0.2, 2.0))))
        await asyncio.gather(*standing)

    def _kinds(self) -> Sequence[str]:
        return ("orchestrator", "supervisor", "runners", "models", "clerk", "shipping", "shipping", "warden", "registry")

    async def _strike(self, kind: str, how: float, seconds: float) -> None:
        pids = await asyncio.to_thread(self._pids, kind)
        if not pids:
            return
        pid = pids[int(how * 1000) % len(pids)]
        with suppress(ProcessLookupError):
            if how < 0.6:
                self.told.append(f"{kind} is killed")
                os.kill(pid, signal.SIGKILL)
                return
            self.told.append(f"{kind} stands still for {seconds:.1f} s")
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    def _pids(self, kind: str) -> list[int]:
        """Those of our bus who live, by Ray's own book: asking them would be to wait for them."""
        found = []
        for one in ray.util.list_named_actors(all_namespaces=True):
            if one["namespace"] == self._name and kind in one["name"]:
                with suppress(ValueError):
                    actor = ray.get_actor(one["name"], namespace=self._name)
                    entry = state.actors(actor._actor_id.hex())
                    if entry["State"] == "ALIVE" and entry["Pid"]:
                        found.append(int(entry["Pid"]))
        return sorted(found)


class Driver:
    """Submits, waits, answers, kills and erases, and makes a call again that found nobody. `outcomes`: what it was told; `killed`: whose
    receipt it has; `erased`: what it was told that nobody can read any more."""

    def __init__(self, bus: AsyncBus) -> None:
        self._bus = bus
        self.outcomes: dict[str, str] = {}
        self.killed: list[str] = []
        self.erased: list[str] = []

    async def submit(self, order: str, workflow: str = "sale") -> AsyncTask[Any]:
        while True:
            try:
                return await self._bus.submit_json(workflow, {"order": order}, id=order)
            except (TryAgain, StoreAway, NotRunning):
                await asyncio.sleep(0.1)

    async def answer(self, order: str, after: float, erase: bool) -> None:
        """Ask what waits for a human, and answer after so many seconds and once it has left memory; or `erase` it unanswered then."""
        task = await self.submit(order, "question")
        await asyncio.sleep(after)
        while not erase and not await self._parked(task):  # noqa: ASYNC110 - whom it asks may be away
            await asyncio.sleep(0.2)
        if erase:
            await self.erase(task)
        while task.id not in self.outcomes:
            with suppress(TryAgain, NotRunning, StoreAway, AlreadyDecided, UnknownItem, TimeoutError):
                for item in await self._bus.inbox.list(task=task.id):
                    await self._bus.inbox.approve(item["item"], f"word of {order}")
                async with asyncio.timeout(1):
                    self.outcomes[task.id] = str(await task.outcome())

    async def _parked(self, task: AsyncTask[Any]) -> bool:
        with suppress(TryAgain, NotRunning, StoreAway, TimeoutError):
            async with asyncio.timeout(1):
                async for event in task.events():
                    if event.kind == "task.parked":
                        return True
        return False

    async def erase(self, task: AsyncTask[Any]) -> None:
        while task.id not in self.erased:
            try:
                erased = await task.erase("asked to")
            except (TryAgain, NotRunning, OrderStands, SupervisorGone, StoreAway):
                await asyncio.sleep(0.2)
            else:
                self.erased.append(task.id)
                self.killed += [task.id] if erased["receipt"] is not None else []

    async def see_through(self, order: str, after: float, kill_after: float | None) -> None:
        await asyncio.sleep(after)
        task = await self.submit(order)
        killing = asyncio.create_task(self._kill(task, kill_after)) if kill_after is not None else None
        while task.id not in self.outcomes:
            with suppress(NotRunning):
                self.outcomes[task.id] = str(await task.outcome())
        if killing is not None:
            await killing

    async def _kill(self, task: AsyncTask[Any], after: float) -> None:
        await asyncio.sleep(after)
        while task.id not in self.killed:
            try:
                await task.kill("enough")
                self.killed.append(task.id)
            except AlreadyEnded:
                return
            except (NotRunning, OrderStands, SupervisorGone, StoreAway):
                await asyncio.sleep(0.2)
