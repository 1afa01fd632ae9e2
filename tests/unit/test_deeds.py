"""Deeds: one row outside whatever dies when, the first result for whoever asks again, and turns for whoever writes to the same."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from interlock import AgentContext, App, Finding, Keyed, Message, Natural, Never, ToolContext, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.frames import Granted
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.tool import declare

SCHEMA = "CREATE TABLE invoices (order_id TEXT, number TEXT, total TEXT, key TEXT UNIQUE)"


class Bill(Message, contract="deeds.bill", version="1.0.0"):
    order: str = "7294"
    total: str = "159.00"
    seconds: float = 0.0


class Billed(Message, contract="deeds.billed", version="1.0.0"):
    number: str
    differs: bool = False


class Orders:
    """A real database outside; `calls` are the tool's, `seen` what the world looked like when each began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[str] = []
        self.on_act: Any = None
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(SCHEMA)

    def rows(self) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute("SELECT order_id, number, total FROM invoices").fetchall()

    def add(self, order: str, total: str, key: str) -> str:
        """One invoice per key, numbered by the database; it may die with the row written and nobody told."""
        self.calls.append(total)
        with closing(sqlite3.connect(self.path)) as db, db:
            (count,) = db.execute("SELECT count(*) FROM invoices").fetchone()
            db.execute("INSERT OR IGNORE INTO invoices VALUES (?, ?, ?, ?)", (order, f"INV-{count + 1}", total, key))
            (number,) = db.execute("SELECT number FROM invoices WHERE key = ?", (key,)).fetchone()
        if self.on_act is not None:
            self.on_act()
        return str(number)


def make(orders: Orders, repeat: Any) -> App:
    app = App("deeds")

    @app.tool(effect="write", system="orders", repeat=repeat, trusted="ours")
    async def create_invoice(order: str, total: str, ctx: ToolContext) -> str:
        """Create.

        Args:
            order: Whose.
            total: How much.
        """
        await asyncio.sleep(0.1)
        number = orders.add(order, total, ctx.idempotency_key)
        await asyncio.sleep(0.1)
        return number

    @app.agent("biller", version="1.0.0", tools=[create_invoice], replicas=(2, 4))
    async def biller(request: Bill, ctx: AgentContext) -> Billed:
        await asyncio.sleep(request.seconds)
        number = await ctx.call(create_invoice, order=request.order, total=request.total)
        await asyncio.sleep(0.1)
        return Billed(number=number, differs="create_invoice" in ctx.arguments_differ)

    @app.workflow("billing", version="1.0.0")
    async def billing(request: Bill, ctx: WorkflowContext) -> Billed:
        return await ctx.ask(request, returns=Billed)

    return app


def facts(sim: Simulation, kind: type[Any], task: str = "") -> list[Any]:
    entries = sim.store.reader.entries(task) if task else sim.store.reader.all_entries(limit=100_000)
    return [fact for entry in entries if isinstance(fact := entry.open(), kind)]


async def bill(sim: Simulation, id: str, tenant: str = "default", **request: Any) -> Any:
    return await sim.bus.submit(sim.app.workflows["billing"], Bill(**request), id=id, tenant=tenant)


def crash(sim: Simulation, who: str) -> None:
    if who == "orchestrator":
        sim.crash_engine()
        return
    for name in sim.living("replica"):
        sim.crash_peer(name)


BUS = Keyed("order", scope="bus")
ENTRIES = {"after intent": "effect.intended", "after the result": "effect.ended", "after the acknowledgement": "message.received"}


def arm(sim: Simulation, orders: Orders, who: str, point: str) -> None:
    """Let `who` die once, at `point`."""
    done: list[str] = []

    def once() -> None:
        if not done:
            done.append(point)
            crash(sim, who)

    if point == "before intent":
        sim.on_row = lambda row: once() if row.kind == "reserve" else None
    elif point == "after the act":
        orders.on_act = once
    else:
        sim.on_entry = lambda entry: once() if entry.kind == ENTRIES[point] else None


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("point", ["before intent", "after intent", "after the act", "after the result", "after the acknowledgement"])
@pytest.mark.parametrize("who", ["replica", "orchestrator"])
def test_one_row_whoever_dies_when_and_the_first_result_for_the_duplicate(tmp_path: Path, who: str, point: str, late: bool) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        arm(sim, orders, who, point)
        first = await bill(sim, "a")
        if late:
            await first.result()
            sim.crash_engine()
        second = await bill(sim, "b")
        assert await first.result() == await second.result() == Billed(number="INV-1")
        assert orders.rows() == [("7294", "INV-1", "159.00")]
        ends = [fact for fact in facts(sim, e.EffectEnded) if fact.ok]
        assert len({encode(fact.value) for fact in ends}) == 1
        assert sorted(bool(fact.same_as) for fact in ends) == [False, True]
        sim.store.reader.verify()

    simulate(main, make(orders, BUS))


def test_a_deed_is_kept_per_key_and_other_arguments_are_marked(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        assert await (await bill(sim, "a")).result() == Billed(number="INV-1")
        assert await (await bill(sim, "b", total="160.00")).result() == Billed(number="INV-1", differs=True)
        assert await (await bill(sim, "c", order="7295")).result() == Billed(number="INV-2")
        assert [fact.arguments_differ for fact in facts(sim, e.EffectEnded)] == [False, True, False]
        assert orders.calls == ["159.00", "159.00"]
        assert (await sim.bus.task("b").record()).steps == 0, "nothing was called"

    simulate(main, make(orders, BUS))


def test_within_a_task_s_scope_another_task_is_another_deed(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        numbers = [(await (await bill(sim, id)).result()).number for id in ("a", "b")]
        assert numbers == ["INV-1", "INV-2"]

    simulate(main, make(orders, Keyed("order")))


@pytest.mark.parametrize(("repeat", "numbers"), [(BUS, ["INV-1", "INV-2", "INV-1"]), (Natural("order"), ["INV-1", "INV-2", "INV-3"])])
def test_what_one_tenant_did_under_a_key_is_nothing_to_another(tmp_path: Path, repeat: Any, numbers: list[str]) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        tasks = [await bill(sim, f"{number}", tenant, total=tenant) for number, tenant in enumerate(("acme", "globex", "acme"))]
        assert [(await task.result()).number for task in tasks] == numbers
        assert len({fact.deed for fact in facts(sim, e.EffectIntended)}) == (2 if repeat is BUS else 1), "a resource is everybody's"

    simulate(main, make(orders, repeat))


# --- what nobody knows -----------------------------------------------------------------------------------------------------------------


def probing(orders: Orders, answers: list[str]) -> Any:
    async def look(order: str) -> Finding:
        """Look into the database."""
        found = [number for row, number, _ in orders.rows() if row == order]
        answers.append("happened" if found else "not_happened")
        return Finding.happened(found[0]) if found else Finding.not_happened()

    async def shrug(order: str) -> Finding:
        """Say that it cannot."""
        answers.append("cannot_tell")
        return Finding.cannot_tell("the log was rotated")

    return look, shrug


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize(("point", "answer"), [("after intent", "not_happened"), ("after the act", "happened")])
def test_a_probe_is_asked_and_believed(tmp_path: Path, point: str, answer: str, crashed: bool) -> None:
    orders, answers = Orders(tmp_path / "orders.db"), list[str]()
    look, _ = probing(orders, answers)

    async def main(sim: Simulation) -> None:
        arm(sim, orders, "replica", point)
        task = await bill(sim, "a")
        if crashed:
            await asyncio.sleep(0.3)
            sim.crash_engine()
        assert await task.result() == Billed(number="INV-1")
        assert set(answers) == {answer}
        assert [fact.then for fact in facts(sim, e.EffectUnknown)] == ["probe"]
        assert {fact.answer for fact in facts(sim, e.EffectProbed)} == {answer}
        assert len(orders.calls) == len(orders.rows()) == 1

    simulate(main, make(orders, Keyed("order", scope="bus", probe=look)))


@pytest.mark.parametrize("happened", [False, True])
def test_where_a_probe_cannot_tell_a_human_is_asked(tmp_path: Path, happened: bool) -> None:
    orders, answers = Orders(tmp_path / "orders.db"), list[str]()
    _, shrug = probing(orders, answers)

    async def main(sim: Simulation) -> None:
        arm(sim, orders, "replica", "after the act" if happened else "after intent")
        task = await bill(sim, "a")
        await asyncio.sleep(20)
        (item,) = await sim.bus.inbox.list()
        assert "the log was rotated" in item["text"]
        await (sim.bus.inbox.approve if happened else sim.bus.inbox.deny)(item["item"], '"INV-1"' if happened else "", by="boss")
        assert await task.result() == Billed(number="INV-1")
        assert answers == ["cannot_tell"]
        assert len(orders.rows()) == 1

    simulate(main, make(orders, Keyed("order", scope="bus", probe=shrug)))


def test_a_natural_write_waits_until_nothing_is_left_of_who_may_do_it(tmp_path: Path) -> None:
    orders, gone = Orders(tmp_path / "orders.db"), list[str]()

    async def main(sim: Simulation) -> None:
        async def is_gone(name: str) -> bool:
            gone.append(name)
            return len(gone) > 2

        sim.engine.gone = is_gone
        arm(sim, orders, "replica", "after the act")
        task = await bill(sim, "a")
        await asyncio.sleep(1)
        assert len(orders.calls) == 1
        await task.result()
        assert len(set(gone)) == 1
        assert [fact.then for fact in facts(sim, e.EffectUnknown)] == ["confirm"]
        assert len(orders.calls) == 2

    simulate(main, make(orders, Natural("order")))


def test_where_nobody_confirms_that_a_holder_is_gone_a_human_is_asked(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        async def never(name: str) -> bool:
            return False

        sim.engine.gone = never
        arm(sim, orders, "replica", "after intent")
        task = await bill(sim, "a")
        await asyncio.sleep(120)
        (item,) = await sim.bus.inbox.list()
        assert "nobody can confirm" in item["text"]
        assert orders.calls == []
        await sim.bus.inbox.deny(item["item"], by="boss")
        await task.result()
        assert len(orders.calls) == 1

    simulate(main, make(orders, Natural("order")))


# --- turns -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crashed", [False, True])
def test_writers_to_one_resource_take_turns_in_order(tmp_path: Path, crashed: bool) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        tasks = [await bill(sim, f"t{n}", total=str(n), seconds=n / 100) for n in range(4)]
        other = await bill(sim, "other", order="7295", total="other")
        await asyncio.sleep(0.15)
        assert sorted(orders.calls) == ["0", "other"]
        if crashed:
            sim.crash_engine()
        for task in (*tasks, other):
            await task.result()
        assert sorted(orders.calls) == ["0", "1", "2", "3", "other"]
        assert crashed or [call for call in orders.calls if call != "other"] == ["0", "1", "2", "3"]
        open_now, most = set[str](), 0
        for fact in facts(sim, e.Fact):
            if isinstance(fact, e.EffectIntended) and '"7295"' not in encode(fact.args).decode():
                open_now.add(fact.effect)
            elif isinstance(fact, e.EffectEnded):
                open_now.discard(fact.effect)
            most = max(most, len(open_now))
        assert most == 1
        assert sim.engine.deeds._lines == {}

    simulate(main, make(orders, Natural("order")))


def test_who_waits_for_a_turn_that_its_holder_leaves_by_a_kill_gets_it(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        await bill(sim, "a")
        second = await bill(sim, "b", seconds=0.02)
        await asyncio.sleep(0.08)
        await sim.kill("tsk_a", "ann", "enough")
        await second.result()
        assert len(orders.calls) == 1
        assert [fact.then for fact in facts(sim, e.EffectUnknown)] == ["none"]

    simulate(main, make(orders, Natural("order")))


# --- grants ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeat", [BUS, Never()])
def test_a_grant_that_comes_too_late_to_be_used_is_given_again_and_did_not_happen(tmp_path: Path, repeat: Any) -> None:
    orders, stale = Orders(tmp_path / "orders.db"), list[str]()

    async def main(sim: Simulation) -> None:
        for name in sim.living("replica"):
            host = sim.peers[name][1].host
            take = host.take

            def taking(frame: Any, take: Any = take) -> None:
                if isinstance(frame, Granted) and not stale:
                    stale.append(frame.effect)
                    frame = frame._replace(seconds=-1.0)
                take(frame)

            host.take = taking  # type: ignore[method-assign]
        assert (await (await bill(sim, "a")).result()).number == "INV-1"
        assert [fact.effect for fact in facts(sim, e.GrantLapsed)] == stale
        assert len(facts(sim, e.EffectIntended)) == 2
        assert len(orders.calls) == 1
        assert await sim.bus.inbox.list() == []

    simulate(main, make(orders, repeat))


# --- declarations ----------------------------------------------------------------------------------------------------------------------


def test_a_probe_that_could_not_be_asked_is_refused_where_it_is_declared() -> None:
    async def put(n: int) -> int:
        """Put.

        Args:
            n: What.
        """
        return n

    async def other(m: int) -> Finding:
        """Look."""
        return Finding.not_happened()

    async def untyped(n: int) -> bool:
        """Look."""
        return True

    for probe, problem in ((other, "takes 'm'"), (untyped, "does not return a Finding"), (declare(put, effect="read"), "is a tool itself")):
        with pytest.raises(BadDeclaration, match=problem):
            declare(put, effect="write", system="s", repeat=Keyed("n", probe=probe))
