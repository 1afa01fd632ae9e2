"""A supervisor that is killed or frozen, on Ray: a task's clock goes on, and a kill says in time what came of it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from interlock import AgentContext, App, Budget, Bus, Message, Outcome, WorkflowContext
from interlock.cluster.config import LEDGER_FILE, ORCHESTRATOR, SUPERVISOR
from interlock.orchestrator.ledger.reader import Reader
from interlock.schemas.errors import NotBorn, OrderStands

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

NAME = "gone"


class Question(Message, contract="gone.question", version="1.0.0"):
    pass


class Answer(Message, contract="gone.answer", version="1.0.0"):
    pass


def make_app() -> App:
    app = App("gone")

    @app.agent("sleeper", version="1.0.0")
    async def sleeper(request: Question, ctx: AgentContext) -> Answer:
        await asyncio.sleep(600)
        return Answer()

    @app.workflow("sleep", version="1.0.0", budget=Budget(seconds=300))
    async def sleep(request: Question, ctx: WorkflowContext) -> Answer:
        return await ctx.ask(request, returns=Answer)

    return app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bus")


@pytest.fixture(scope="module")
def bus(home: Path) -> Iterator[Bus]:
    with Bus.start(make_app(), folder=home, name=NAME) as bus:
        yield bus


def process(actor: str) -> int:
    handle: Any = ray.get_actor(actor, namespace=NAME)
    get: Any = ray.get
    return int(get(handle.ping.remote())[1])


def test_every_pool_has_a_member_once_the_bus_has_started(bus: Bus) -> None:
    assert bus.status()["pools"] == {"runners": ["runners-1"], "sleeper": ["sleeper-1"]}


def test_seconds_run_out_though_nobody_calls_a_dead_supervisor(bus: Bus) -> None:
    task = bus.submit_json("sleep", {}, limits={"seconds": "4"})
    os.kill(process(SUPERVISOR), signal.SIGKILL)
    assert task.outcome(timeout=45) is Outcome.BUDGET_EXCEEDED


def test_orchestrator_and_supervisor_come_back_though_nobody_calls_either(bus: Bus, home: Path) -> None:
    task = bus.submit_json("sleep", {}, limits={"seconds": "4"})
    for pid in (process(ORCHESTRATOR), process(SUPERVISOR)):
        os.kill(pid, signal.SIGKILL)
    reader, deadline = Reader(home / LEDGER_FILE), time.monotonic() + 45
    while not (row := reader.task(task.id)) or not row.outcome:
        assert time.monotonic() < deadline, "nobody goes on with it"
        time.sleep(0.1)
    assert row.outcome == Outcome.BUDGET_EXCEEDED
    reader.close()


def test_an_order_against_a_frozen_supervisor_is_durable_and_obeyed_when_it_wakes(bus: Bus) -> None:
    task, pid = bus.submit_json("sleep", {}), process(SUPERVISOR)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interlock.cluster.backend.KILL_SECONDS", 1.0)
            patch.setattr("interlock.cluster.backend.PING_SECONDS", 1.0)
            with pytest.raises(OrderStands, match=r"durable in .*supervisor\.db"):
                task.kill("enough", by="ada")
        assert time.monotonic() - began < 30
    finally:
        os.kill(pid, signal.SIGCONT)
    assert task.outcome(timeout=45) is Outcome.KILLED
    assert task.kill("again", by="bob")["by"] == "ada"


def test_an_app_that_cannot_be_loaded_in_its_processes_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(NotBorn, match="cannot be loaded there"):
        Bus.start(Unloadable("gone"), folder=tmp_path / "bus", name="unborn")


class Unloadable(App):
    """Loads where it is made and nowhere else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        made = make_app()
        self.agents, self.workflows = made.agents, made.workflows

    def __reduce__(self) -> tuple[object, ...]:
        return _only_here, (os.getpid(),)


def _only_here(pid: int) -> App:
    if pid != os.getpid():
        raise ModuleNotFoundError("no module named 'shop'")
    return make_app()
