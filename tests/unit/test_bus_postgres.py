"""A whole bus in one process on PostgreSQL: chosen by the environment, and nothing is lost where the server crashes in the middle."""

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server

from interlock import AgentContext, App, AsyncBus, Budget, Keyed, LocalBus, Message, ToolContext, WorkflowContext, backend
from interlock.actors.supervisor import postgres_journal
from interlock.assembly import Assembly
from interlock.local_ports import RESTART_SECONDS
from interlock.orchestrator.ledger import postgres, stores
from interlock.orchestrator.ledger.stores import open_reader
from interlock.schemas.errors import LedgerInUse, LedgerStalled, OrderStands, StoreAway, StorePaused, TryAgain
from interlock.schemas.places import LEDGER_VARIABLE, Database
from interlock.task import AsyncTask

TASKS = 30


class Order(Message, contract="pg.order", version="1.0.0"):
    number: int


class Booked(Message, contract="pg.booked", version="1.0.0"):
    number: int


@pytest.fixture
def where(postgres_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Database:
    place = postgres_server.database()
    monkeypatch.setenv(LEDGER_VARIABLE, place.url)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    return place


@pytest.fixture
def booked() -> list[str]:
    return []


@pytest.fixture
def app(booked: list[str]) -> App:
    app = App("shop")

    @app.tool(effect="write", system="books", repeat=Keyed("number", scope="bus"))
    async def book(number: int, ctx: ToolContext) -> int:
        """Book an order."""
        booked.append(ctx.idempotency_key)
        return number

    @app.agent("clerk", version="1.0.0", tools=[book])
    async def clerk(request: Order, ctx: AgentContext) -> Booked:
        return Booked(number=await ctx.call(book, number=request.number))

    @app.workflow("sale", version="1.0.0", budget=Budget(steps=5, writes={"books": 3}))
    async def sale(request: Order, ctx: WorkflowContext) -> Booked:
        for _ in range(2):
            done = await ctx.ask(request, returns=Booked)
        return done

    return app


async def insist(bus: AsyncBus, app: App, number: int) -> AsyncTask[Any]:
    """Submit until it is accepted, as the refusal of a ledger or a journal that is stalled says."""
    while True:
        try:
            return await bus.submit(app.workflows["sale"], Order(number=number), id=f"sale-{number}")
        except TryAgain:
            await asyncio.sleep(0.05)


def test_a_server_that_crashes_in_the_middle_of_traffic_loses_nothing(
    app: App, booked: list[str], where: Database, postgres_server: Server
) -> None:
    async def main() -> None:
        async with await AsyncBus.local(app) as bus:
            crashing = threading.Thread(target=postgres_server.restart)
            crashing.start()
            tasks = []
            for number in range(TASKS):
                tasks.append(await insist(bus, app, number))
            results = await asyncio.gather(*(task.result() for task in tasks))
            assert [result.number for result in results] == list(range(TASKS))
            await asyncio.to_thread(crashing.join)
            assert (await bus.status())["ledger"]["state"] == "ok"
            assert [task["outcome"] for task in await bus.tasks()] == ["success"] * TASKS
            assert await bus.verify() > 5 * TASKS

    asyncio.run(main())
    assert len(set(booked)) == TASKS


def test_an_outage_that_ends_engine_and_supervisor_ends_no_bus(
    app: App, where: Database, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones wait for the server, and the loop on which all work is never held up for long."""
    monkeypatch.setattr(postgres, "READ_SECONDS", 0.0)
    monkeypatch.setattr(postgres_journal, "AWAY_SECONDS", 0.0)
    monkeypatch.setattr(backend, "CHECK_SECONDS", 0.1)

    async def main() -> None:
        async with await AsyncBus.local(app) as bus:
            first = await insist(bus, app, 1)
            postgres_server.stop()
            try:
                assembly: Assembly = bus._backend._assembly  # type: ignore[attr-defined]
                assembly.engine.fault(StoreAway(path=str(where), problem="for a test"))
                with pytest.raises(StorePaused):
                    await assembly.ask_supervisor(lambda supervisor: supervisor.budgets.open("tsk", {}, 0))
                await asyncio.sleep(2 * RESTART_SECONDS)
                assert assembly.journal_stalled is not None
                waiting = asyncio.create_task(first.result())
                with pytest.raises(LedgerStalled, match=r"The ledger is stalled since 20.*"):
                    await bus.status()
                with pytest.raises(OrderStands) as stands:
                    await assembly.kill("tsk_never", "ann", "it never came")
                assert Path(stands.value.path).exists()
            finally:
                await asyncio.to_thread(postgres_server.start_again)
            again = await insist(bus, app, 2)
            assert [(await one).number for one in (waiting, again.result())] == [1, 2]
            status = await bus.status()
            assert (status["ledger"]["state"], status["journal"]["state"]) == ("ok", "ok")
            assert status["epoch"] > 1

    asyncio.run(main())


def test_the_next_bus_goes_on_where_the_one_before_stood(
    app: App, where: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_GONE_SECONDS", 0.2)
    for expected in (1, 2):
        with LocalBus(app) as bus:
            task = bus.submit(app.workflows["sale"], Order(number=7), id="sale-7")
            assert task.result(timeout=30).number == 7
            assert bus.status()["epoch"] == expected
            with pytest.raises(LedgerInUse), LocalBus(app):
                raise AssertionError("two buses wrote to one ledger")
    with closing(open_reader(where)) as reader:
        assert [row.task for row in reader.tasks()] == ["tsk_sale-7"]
    assert not (tmp_path / "home" / "ledger.db").exists()


def test_a_folder_of_its_own_comes_first(app: App, where: Database, tmp_path: Path) -> None:
    with LocalBus(app, folder=tmp_path / "own") as bus:
        bus.submit(app.workflows["sale"], Order(number=7)).result(timeout=30)
    assert (tmp_path / "own" / "ledger.db").exists()


def test_a_kill_on_it(app: App, where: Database) -> None:
    @app.workflow("endless", version="1.0.0")
    async def endless(request: Order, ctx: WorkflowContext) -> Booked:
        while True:
            await ctx.sleep(60)

    with LocalBus(app) as bus:
        task = bus.submit(app.workflows["endless"], Order(number=7))
        assert task.kill("enough")["verified"]
        assert task.outcome() == "killed"
