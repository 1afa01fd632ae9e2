"""Trips, for the tests of undoing: booked part by part, and each part can be cancelled."""

import asyncio
from collections.abc import Callable
from typing import Any

from interlock import AgentContext, App, Budget, Escalate, Keyed, Message, Never, ToolContext, WorkflowContext
from interlock.orchestrator.ledger.undos import standing
from interlock.schemas.undo import undoing_of
from interlock.testing.simulation import Simulation

ID = "tsk_a"
UNDOING = undoing_of(ID)


class Book(Message, contract="trip.book", version="1.0.0"):
    trip: str
    then: str = "wait"
    parts: tuple[str, ...] = ("flight", "hotel")


class Booked(Message, contract="trip.booked", version="1.0.0"):
    parts: list[str]


class Part(Message, contract="trip.part", version="1.0.0"):
    trip: str
    part: str
    then: str = ""


class PartBooked(Message, contract="trip.part_booked", version="1.0.0"):
    part: str


_BY_PART = Keyed("part")


class World:
    """What was really done, in order; `broken` are those that cannot be cancelled now."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: set[str] = set()
        self.broken: set[str] = set()
        self.on_cancel: Callable[[], None] | None = None

    def do(self, key: str, what: str) -> None:
        if key not in self.keys:
            self.keys.add(key)
            self.done.append(what)


def make(world: World, undo: Budget | None = None, repeat: Keyed | Never = _BY_PART) -> App:
    """Trips, booked part by part: each part can be cancelled."""
    app = App("trips")

    @app.tool(effect="write", system="travel", repeat=Keyed("part"))
    async def reserve(trip: str, part: str, ctx: ToolContext) -> bool:
        """Book a part of a trip.

        Args:
            trip: The trip.
            part: Its part.
        """
        await asyncio.sleep(0.1)
        world.do(ctx.idempotency_key, f"book {part}")
        return True

    @app.tool(effect="write", system="travel", repeat=repeat)
    async def cancel(trip: str, part: str, ctx: ToolContext) -> bool:
        """Cancel a part of a trip.

        Args:
            trip: The trip.
            part: Its part.
        """
        if world.on_cancel is not None:
            world.on_cancel()
        await asyncio.sleep(0.1)
        if part in world.broken:
            raise RuntimeError("the desk is closed")
        world.do(ctx.idempotency_key, f"cancel {part}")
        await asyncio.sleep(0.1)
        return True

    @app.agent("desk", version="1.0.0", tools=[reserve, cancel], replicas=(2, 2))
    async def desk(request: Part, ctx: AgentContext) -> PartBooked:
        if request.then == "early":
            await asyncio.sleep(1000)
        await ctx.call(reserve, trip=request.trip, part=request.part)
        if request.then == "hang":
            await asyncio.sleep(1000)
        return PartBooked(part=request.part)

    @app.workflow("trip", version="1.0.0", budget=Budget(seconds=1000), undo=undo, escalate=Escalate(to="boss", seconds=5000))
    async def trip(request: Book, ctx: WorkflowContext) -> Booked:
        for part in request.parts:
            ctx.on_undo(cancel, reserve, trip=request.trip, part=part)
            await ctx.ask(Part(trip=request.trip, part=part, then=request.then), returns=PartBooked)
        if request.then == "wait":
            await ctx.sleep(900)
        if request.then == "fail":
            raise RuntimeError("no seat left")
        return Booked(parts=list(request.parts))

    return app


async def submit(sim: Simulation, then: str = "wait", id: str = "a", **more: Any) -> Any:
    return await sim.bus.submit_json("trip", {"trip": "rome", "then": then, **more}, id=id)


def states(sim: Simulation, task: str = ID) -> list[str]:
    """How its undos stand, by the ledger."""
    told = [[entry.open() for entry in sim.store.reader.entries(id)] for id in (task, undoing_of(task))]
    return [one["state"] for one in standing(task, *told)]


async def outcome(sim: Simulation, task: str = UNDOING) -> str:
    return str(await asyncio.wait_for(sim.bus.task(task).outcome(), 3600))


BOTH = ["book flight", "book hotel", "cancel hotel", "cancel flight"]
