"""SIGKILL of a warden and of the registry, on Ray: they hold nothing, and whoever comes in their place goes on with the same."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from interlock import AgentContext, App, Bus, Message, Outcome, WorkflowContext
from interlock.actors.board import read
from interlock.cluster.config import REGISTRY, WARDEN
from interlock.launch import run_dir

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

NAME = "trusted"


class Question(Message, contract="trusted.question", version="1.0.0"):
    hang: bool = False


class Answer(Message, contract="trusted.answer", version="1.0.0"):
    pass


def make_app() -> App:
    app = App("trusted")

    @app.agent("worker", version="1.0.0")
    async def worker(request: Question, ctx: AgentContext) -> Answer:
        while request.hang:
            pass
        await asyncio.sleep(0.5)
        return Answer()

    @app.workflow("work", version="1.0.0")
    async def work(request: Question, ctx: WorkflowContext) -> Answer:
        return await ctx.ask(request, returns=Answer)

    return app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bus")


@pytest.fixture(scope="module")
def bus(home: Path) -> Iterator[Bus]:
    with Bus.start(make_app(), folder=home, name=NAME) as bus:
        yield bus


def end(actor: str) -> None:
    """SIGKILL of the one whose name begins so; it has ended on return."""
    (name,) = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == NAME and actor in one["name"]]
    handle: Any = ray.get_actor(name, namespace=NAME)
    get: Any = ray.get
    process = psutil.Process(get(handle.__ray_call__.remote(lambda self: os.getpid())))
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def replica(home: Path) -> psutil.Process:
    deadline = time.monotonic() + 30
    while True:
        for path in run_dir(home, NAME).glob("worker-*.board"):
            view = read(path)
            if view is not None and psutil.pid_exists(view.owner.pid):
                return psutil.Process(view.owner.pid)
        assert time.monotonic() < deadline, "there is no replica"
        time.sleep(0.05)


def test_who_dies_while_there_is_no_warden_is_replaced(bus: Bus, home: Path) -> None:
    working = replica(home)
    task = bus.submit_json("work", {})
    end(WARDEN)
    working.send_signal(signal.SIGKILL)
    assert task.outcome(timeout=45) is Outcome.SUCCESS
    assert replica(home).pid != working.pid


def test_a_kill_waits_for_the_next_warden_and_is_verified(bus: Bus, home: Path) -> None:
    working = replica(home)
    task = bus.submit_json("work", {"hang": True})
    next(event for event in task.events() if event.kind == "message.sent")
    end(WARDEN)
    receipt = task.kill("enough", by="ada")
    assert receipt["verified"]
    assert task.outcome(timeout=10) is Outcome.KILLED
    assert not working.is_running()


def test_the_next_registry_knows_what_is_registered(bus: Bus) -> None:
    end(REGISTRY)

    class Wider(Message, contract="trusted.question", version="1.1.0"):
        hang: bool = False
        why: str = ""

    assert bus.contracts.register(Wider)
    assert not bus.contracts.register(Wider)
