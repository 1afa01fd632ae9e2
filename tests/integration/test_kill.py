"""The kill on real processes: who lets go, who does not, and who has children."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from interlock import AgentContext, App, Budget, Bus, Message, Never, Outcome, TaskFailed, ToolContext, WorkflowContext
from interlock.cluster.config import ORCHESTRATOR

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]


class Job(Message, contract="kill.job", version="1.0.0"):
    how: str
    folder: str


class Stubborn(Message, contract="kill.stubborn", version="1.0.0"):
    folder: str


class Waiting(Message, contract="kill.waiting", version="1.0.0"):
    folder: str


class Child(Message, contract="kill.child", version="1.0.0"):
    folder: str


class Done(Message, contract="kill.done", version="1.0.0"):
    pid: int


def make_app() -> App:
    app = App("kill")

    def note(folder: str, name: str) -> None:
        (Path(folder) / name).write_text(str(os.getpid()))

    @app.agent("stubborn", version="1.0.0")
    async def stubborn(request: Stubborn, ctx: AgentContext) -> Done:
        note(request.folder, "started")
        while True:
            pass

    @app.agent("waiting", version="1.0.0")
    async def waiting(request: Waiting, ctx: AgentContext) -> Done:
        note(request.folder, "started")
        while not (Path(request.folder) / "go").exists():  # noqa: ASYNC110 - it waits for a file
            await asyncio.sleep(0.05)
        return Done(pid=os.getpid())

    @app.tool(effect="write", system="host", repeat=Never(), timeout=600)
    async def spawn(folder: str, ctx: ToolContext) -> int:
        """Start a child that ignores SIGTERM in a session of its own, and wait for it."""
        script = (
            "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid() if os.getpid() != os.getsid(0) else None; "
        )
        script += "open('child', 'w').write(str(os.getpid())); time.sleep(600)"
        process = await asyncio.create_subprocess_exec("python3", "-c", script, cwd=folder)
        return await process.wait()

    @app.agent("parent", version="1.0.0", tools=[spawn])
    async def parent(request: Child, ctx: AgentContext) -> Done:
        note(request.folder, "started")
        return Done(pid=await ctx.call(spawn, folder=request.folder))

    @app.workflow("job", version="1.0.0", budget=Budget(seconds=300, writes={"host": 5}))
    async def job(request: Job, ctx: WorkflowContext) -> Done:
        asks: dict[str, Message] = {
            "stubborn": Stubborn(folder=request.folder),
            "waiting": Waiting(folder=request.folder),
            "child": Child(folder=request.folder),
        }
        return await ctx.ask(asks[request.how], returns=Done)

    return app


NAME = "kill"


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with Bus.start(make_app(), folder=tmp_path_factory.mktemp("bus"), name=NAME) as bus:
        yield bus


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something outside this process that announces nothing."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return value


def read(file: Path) -> int:
    return int(until(lambda: file.exists() and file.read_text()))


def start(bus: Bus, how: str, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    return bus.submit_json("job", {"how": how, "folder": str(folder)})


def test_a_cooperative_task_lets_go_and_its_replica_lives_on(bus: Bus, tmp_path: Path) -> None:
    victim, innocent = start(bus, "waiting", tmp_path / "victim"), start(bus, "waiting", tmp_path / "innocent")
    pid = read(tmp_path / "victim" / "started")
    read(tmp_path / "innocent" / "started")
    receipt = victim.kill("wrong order", by="ada")
    assert receipt["verified"]
    assert {one["how"] for one in receipt["processes"]} == {"cancelled"}
    assert victim.outcome(timeout=10) is Outcome.KILLED
    with pytest.raises(TaskFailed, match="ada killed it: wrong order"):
        victim.result(timeout=10)
    (tmp_path / "innocent" / "go").touch()
    assert innocent.result(timeout=30)["pid"] == pid


def test_a_busy_loop_is_ended_and_nothing_else(bus: Bus, tmp_path: Path) -> None:
    task = start(bus, "stubborn", tmp_path / "busy")
    pid = read(tmp_path / "busy" / "started")
    receipt = task.kill("it spins", by="ada")
    assert receipt["verified"]
    assert "killed" in {one["how"] for one in receipt["processes"]}
    until(lambda: not psutil.pid_exists(pid))
    assert task.outcome(timeout=10) is Outcome.KILLED
    other = start(bus, "stubborn", tmp_path / "next")
    assert read(tmp_path / "next" / "started") != pid
    other.kill("enough", by="ada")


def test_a_stopped_replica_is_ended_too(bus: Bus, tmp_path: Path) -> None:
    task = start(bus, "stubborn", tmp_path / "stopped")
    pid = read(tmp_path / "stopped" / "started")
    os.kill(pid, signal.SIGSTOP)
    receipt = task.kill("it sleeps", by="ada")
    assert receipt["verified"]
    until(lambda: not psutil.pid_exists(pid))


def test_a_child_that_ignores_sigterm_goes_with_its_task(bus: Bus, tmp_path: Path) -> None:
    task = start(bus, "child", tmp_path / "family")
    child = read(tmp_path / "family" / "child")
    receipt = task.kill("no children", by="ada")
    assert receipt["verified"]
    assert receipt["unknown_effects"], "the tool call had no result: whether it took effect is not known"
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert subprocess.run(["pgrep", "-f", "signal.SIG_IGN.*open..child"], capture_output=True, check=False).stdout == b""


def test_killing_twice_returns_the_first_receipt(bus: Bus, tmp_path: Path) -> None:
    task = start(bus, "waiting", tmp_path / "twice")
    read(tmp_path / "twice" / "started")
    assert task.kill("once", by="ada") == task.kill("twice", by="grace")
    assert task.outcome(timeout=10) is Outcome.KILLED


def test_the_clock_is_a_limit_like_any_other(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    task = bus.submit_json("job", {"how": "stubborn", "folder": str(tmp_path / "slow")}, limits={"seconds": 2})
    assert task.outcome(timeout=30) is Outcome.BUDGET_EXCEEDED
    assert "seconds" in str(task.record().error)


def test_a_kill_needs_no_orchestrator(bus: Bus, tmp_path: Path) -> None:
    task = start(bus, "stubborn", tmp_path / "alone")
    pid = read(tmp_path / "alone" / "started")
    _, orchestrator = ray.get(ray.get_actor(ORCHESTRATOR, namespace=NAME).ping.remote())
    os.kill(orchestrator, signal.SIGSTOP)
    try:
        receipt = task.kill("while it hangs", by="ada")
        assert receipt["verified"]
        until(lambda: not psutil.pid_exists(pid))
    finally:
        os.kill(orchestrator, signal.SIGCONT)
    assert task.outcome(timeout=30) is Outcome.KILLED


def test_the_ledger_of_all_this_is_whole(bus: Bus) -> None:
    assert bus.verify() > 20
    assert all(row["state"] == "ended" for row in bus.tasks())
