"""A shop that does everything that can go wrong: asks side by side, limits in time, failures that are caught, sleeps, questions,
approvals, and writes of every kind into a world outside that counts what is done to it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from interlock import AgentContext, App, Budget, Escalate, Keyed, Message, Natural, Never, ToolContext, WorkflowContext
from interlock.orchestrator.ledger.memory import Disk
from interlock.schemas.canonical import decode
from interlock.schemas.errors import AgentFailed, AlreadyDecided, UnknownItem
from interlock.testing.simulation import Simulation


class OrderPlaced(Message, contract="shop.order", version="1.0.0"):
    order: str
    lines: int = 3


class Done(Message, contract="shop.done", version="1.0.0"):
    order: str
    total: int
    late: bool
    broken: bool
    note: str
    receipt: str


class PriceOf(Message, contract="shop.price_of", version="1.0.0"):
    order: str
    line: int


class PriceIs(Message, contract="shop.price_is", version="1.0.0"):
    amount: int


class Linger(Message, contract="shop.linger", version="1.0.0"):
    order: str


class Break(Message, contract="shop.break", version="1.0.0"):
    order: str


class WriteNote(Message, contract="shop.write_note", version="1.0.0"):
    order: str


class Note(Message, contract="shop.note", version="1.0.0"):
    text: str


class Settle(Message, contract="shop.settle", version="1.0.0"):
    order: str
    total: int


class Receipt(Message, contract="shop.receipt", version="1.0.0"):
    receipt: str


class World:
    """The outside. `rows` are the deeds by what they are about; `calls` counts how often each tool really ran;
    `on_deed` hears of each write that begins."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing has happened yet: a shop that was built once serves many runs."""
        self.rows: list[tuple[str, ...]] = []
        self.keys: dict[str, tuple[str, ...]] = {}
        self.calls: Counter[str] = Counter()
        self.on_deed: Callable[[], None] | None = None
        self.begun: Counter[tuple[str, str]] = Counter()
        self.intended: Counter[tuple[str, str]] | None = None
        """By tool and order, how many intents are durable; none where nobody looks."""
        self.unintended: list[tuple[str, str]] = []

    def keyed(self, key: str, *row: str) -> None:
        """A deed that this world does once per key."""
        if key not in self.keys:
            self.keys[key] = row
            self.rows.append(row)

    def called(self, tool: str, order: str) -> None:
        """A write tool begins: an intent for each time that it does must be durable by now."""
        self.calls[tool] += 1
        if self.on_deed is not None:
            self.on_deed()
        self.begun[tool, order] += 1
        if self.intended is not None and self.begun[tool, order] > self.intended[tool, order]:
            self.unintended.append((tool, order))

    def happened(self, *row: str) -> bool:
        return row in self.rows

    @property
    def repeated(self) -> list[tuple[str, ...]]:
        return [row for row, number in Counter(self.rows).items() if number > 1]


MOMENT = 0.01
"""How long a tool takes before, and after, it does what it does."""

PLAYBOOK = {
    "rules": [
        {
            "agent": "clerk",
            "tool_results": 0,
            "delay": 0.02,
            "answer": {"tool_calls": [{"name": "file_note", "arguments": {"order": "{{/order}}", "text": "seen"}}]},
        },
        {"agent": "clerk", "tool_results": 1, "delay": 0.02, "answer": {"json": {"text": "filed"}}},
    ]
}


def make_shop(world: World, budget: Budget | None = None) -> App:
    """The shop on a world."""
    app = App("shop")
    tools = declare_tools(app, world)
    declare_agents(app, tools)
    declare_sale(app, tools, budget)
    return app


def declare_tools(app: App, world: World) -> SimpleNamespace:
    @app.tool(effect="read", trusted="the price list is ours")
    async def look_up(order: str, line: int) -> int:
        """Look up a price.

        Args:
            order: The order.
            line: Its line.
        """
        world.calls["look_up"] += 1
        await asyncio.sleep(MOMENT)
        return 10 * line

    @app.tool(effect="write", system="files", repeat=Keyed("order"), trusted="ours")
    async def file_note(order: str, text: str, ctx: ToolContext) -> bool:
        """File a note.

        Args:
            order: The order.
            text: What to file.
        """
        world.called("file_note", order)
        await asyncio.sleep(MOMENT)
        world.keyed(ctx.idempotency_key, "note", order)
        await asyncio.sleep(MOMENT)
        return True

    @app.tool(effect="write", system="shelf", repeat=Natural("order"))
    async def mark(order: str, state: str) -> bool:
        """Set the state of an order.

        Args:
            order: The order.
            state: Its state from now on.
        """
        world.called("mark", order)
        await asyncio.sleep(MOMENT)
        if not world.happened("mark", order, state):
            world.rows.append(("mark", order, state))
        await asyncio.sleep(MOMENT)
        return True

    @app.tool(effect="write", system="desk", repeat=Never())
    async def stamp(order: str) -> bool:
        """Stamp the paper.

        Args:
            order: The order.
        """
        world.called("stamp", order)
        await asyncio.sleep(MOMENT)
        world.rows.append(("stamp", order))
        await asyncio.sleep(MOMENT)
        return True

    @app.tool(effect="irreversible", system="bank", repeat=Never())
    async def pay(order: str, amount: int) -> str:
        """Pay.

        Args:
            order: The order.
            amount: How much.
        """
        world.called("pay", order)
        await asyncio.sleep(MOMENT)
        world.rows.append(("pay", order))
        await asyncio.sleep(MOMENT)
        return f"paid {amount}"

    @app.tool(effect="write", system="files", repeat=Keyed("order"))
    async def unfile(order: str, ctx: ToolContext) -> bool:
        """Take a note out of the files.

        Args:
            order: The order.
        """
        world.called("unfile", order)
        await asyncio.sleep(MOMENT)
        world.keyed(ctx.idempotency_key, "unfile", order)
        await asyncio.sleep(MOMENT)
        return True

    @app.tool(effect="write", system="shelf", repeat=Natural("order"))
    async def unmark(order: str) -> bool:
        """An order has no state any more.

        Args:
            order: The order.
        """
        world.called("unmark", order)
        await asyncio.sleep(MOMENT)
        if not world.happened("unmark", order):
            world.rows.append(("unmark", order))
        await asyncio.sleep(MOMENT)
        return True

    return SimpleNamespace(look_up=look_up, file_note=file_note, unfile=unfile, mark=mark, unmark=unmark, stamp=stamp, pay=pay)


def declare_agents(app: App, tools: SimpleNamespace) -> None:
    @app.agent("pricing", version="1.0.0", tools=[tools.look_up], replicas=(2, 4))
    async def pricing(request: PriceOf, ctx: AgentContext) -> PriceIs:
        return PriceIs(amount=await ctx.call(tools.look_up, order=request.order, line=request.line))

    @app.agent("lingering", version="1.0.0", isolation="exclusive")
    async def lingering(request: Linger, ctx: AgentContext) -> Note:
        await asyncio.sleep(3600)
        return Note(text="too late")

    @app.agent("broken", version="1.0.0")
    async def broken(request: Break, ctx: AgentContext) -> Note:
        raise RuntimeError("as always")

    own = [tools.file_note, tools.unfile]
    app.agent("clerk", version="1.0.0", accepts=WriteNote, returns=Note, instructions="You are the clerk: file a note.", tools=own)

    @app.agent("cashier", version="1.0.0", tools=[tools.mark, tools.unmark, tools.stamp, tools.pay], replicas=(2, 4))
    async def cashier(request: Settle, ctx: AgentContext) -> Receipt:
        await ctx.call(tools.mark, order=request.order, state="open")
        stamping, paying = ctx.call(tools.stamp, order=request.order), ctx.call(tools.pay, order=request.order, amount=request.total)
        _, paid = await asyncio.gather(stamping, paying)
        await ctx.call(tools.mark, order=request.order, state="paid")
        return Receipt(receipt=paid if isinstance(paid, str) else "confirmed")


def declare_sale(app: App, tools: SimpleNamespace, budget: Budget | None) -> None:
    @app.workflow("sale", version="1.0.0", budget=budget or Budget(seconds=3000), escalate=Escalate(to="boss", seconds=2000))
    async def sale(request: OrderPlaced, ctx: WorkflowContext) -> Done:
        asks = [ctx.ask(PriceOf(order=request.order, line=line), returns=PriceIs) for line in range(request.lines)]
        prices = await asyncio.gather(*asks)
        total, late, broken = sum(price.amount for price in prices), False, False
        try:
            async with asyncio.timeout(2):
                await ctx.ask(Linger(order=request.order), returns=Note)
        except TimeoutError:
            late = True
        try:
            await ctx.ask(Break(order=request.order), returns=Note)
        except AgentFailed:
            broken = True
        await ctx.sleep(5)
        answer = await ctx.ask_human("Shall we?", order=request.order)
        ctx.on_undo(tools.unmark, tools.mark, order=request.order)
        ctx.on_undo(tools.unfile, tools.file_note, order=request.order)
        note, receipt = await asyncio.gather(
            ctx.ask(WriteNote(order=request.order), returns=Note), ctx.ask(Settle(order=request.order, total=total), returns=Receipt)
        )
        return Done(order=request.order, total=total, late=late, broken=broken, note=f"{note.text} by {answer.by}", receipt=receipt.receipt)

    return app


async def boss(sim: Simulation, world: World, told: Callable[[str, str], None] | None = None) -> None:
    """Decides all that comes up: yes to questions and acts; where nobody knows what happened, by a look at the world and the books.
    `told` hears of each decision that was confirmed."""
    disk: Disk = sim.store.disk  # type: ignore[attr-defined]
    seen, pause = 0, 0.5
    while True:
        # Whether there is anything is asked of the disk: who asks the bus twice a second does nothing else.
        for item in await sim.bus.inbox.list() if disk.inbox() else ():
            yes, note = True, ""
            if item["kind"] == "unknown":
                details: dict[str, Any] = _decoded(item["details"])
                yes = world.happened(details["tool"], details["arguments"]["order"])
                note = '"paid 30"' if details["tool"] == "pay" else "true"
            try:
                await (sim.bus.inbox.approve if yes else sim.bus.inbox.deny)(item["item"], note, by="boss")
            except (UnknownItem, AlreadyDecided):
                continue  # it was decided, or nobody needs it any more
            if told is not None:
                told(item["item"], "approved" if yes else "denied")
        seen, pause = len(disk.log), 0.5 if len(disk.log) > seen else min(2 * pause, 30.0)
        await asyncio.sleep(pause)


def _decoded(details: Any) -> dict[str, Any]:
    value: dict[str, Any] = decode(details) if isinstance(details, str) else details
    return value
