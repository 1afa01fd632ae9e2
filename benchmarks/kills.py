"""How fast a kill is, with evidence: `python -m benchmarks.kills [TASKS]` starts a bus and kills one task that cooperates, one in a busy
loop, one whose replica is stopped by a signal, and then, by one order, 1,000 that run on eight replicas. Each time is from the call to the
receipt in the driver's hands, and counts only where that is verified.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import crowd
from benchmarks.figures import Mark
from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.aio import AsyncBus
from interlock.cluster.driver import start
from interlock.task import AsyncTask

RESULTS = Path(__file__).with_name("kills.json")
TASKS, REPLICAS, ROUNDS, DAY = 1000, 8, 3, 86_400
MARKS = {
    "cooperative_s": Mark("at most", 0.3),
    "busy_loop_s": Mark("at most", 3.0),
    "stopped_process_s": Mark("at most", 3.0),
    "everything_s": Mark("at most", 5.0),
}


class Work(Message, contract="bench.work", version="1.0.0"):
    """`pid` is a file into which whoever works on it writes its process id."""

    how: str
    pid: str


class Loop(Message, contract="bench.loop", version="1.0.0"):
    pid: str


class Done(Message, contract="bench.done", version="1.0.0"):
    pass


def make_app() -> App:
    """Eight replicas that wait as long as they may, and one that never gives its event loop back."""
    app = App("kills")

    @app.agent("patient", version="1.0.0", replicas=(REPLICAS, REPLICAS), concurrency=500)
    async def patient(request: Work, ctx: AgentContext) -> Done:
        Path(request.pid).write_text(str(os.getpid()))
        await asyncio.sleep(DAY)
        return Done()

    @app.agent("busy", version="1.0.0", replicas=(1, 1))
    async def busy(request: Loop, ctx: AgentContext) -> Done:
        Path(request.pid).write_text(str(os.getpid()))
        while True:
            pass

    @app.workflow("work", version="1.0.0", budget=Budget(seconds=DAY))
    async def work(request: Work, ctx: WorkflowContext) -> Done:
        if request.how == "busy":
            return await ctx.ask(Loop(pid=request.pid), returns=Done)
        return await ctx.ask(request, returns=Done)

    return app


app = make_app()


async def measure(tasks: int) -> dict[str, Any]:
    """The figures of one run: of those of one task the slowest of a few."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        async with await start(app, folder=place) as bus:
            await _at_work(await _submit(bus, place, "warm", "patient"), place, "warm")
            rounds = [
                {
                    "cooperative_s": await _one(bus, place, f"cooperative-{n}", "patient"),
                    "busy_loop_s": await _one(bus, place, f"busy-{n}", "busy"),
                    "stopped_process_s": await _one(bus, place, f"stopped-{n}", "patient", signal.SIGSTOP),
                }
                for n in range(ROUNDS)
            ]
            everything = await _everything(bus, place, tasks)
    return {**{name: max(one[name] for one in rounds) for name in rounds[0]}, "everything_s": everything, "tasks": tasks, "rounds": rounds}


async def _submit(bus: AsyncBus, place: Path, id: str, how: str) -> AsyncTask[Done]:
    return await bus.submit(app.workflows["work"], Work(how=how, pid=str(place / id)), id=id)


async def _at_work(task: AsyncTask[Done], place: Path, id: str) -> int:
    """The process that works on a task, once one does."""
    file = place / id
    await _until(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(crowd.PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.05)


async def _one(bus: AsyncBus, place: Path, id: str, how: str, hurt: signal.Signals | None = None) -> float:
    task = await _submit(bus, place, id, how)
    pid = await _at_work(task, place, id)
    if hurt is not None:
        os.kill(pid, hurt)
    return await _timed(lambda: task.kill("measured"))


async def _everything(bus: AsyncBus, place: Path, tasks: int) -> float:
    numbers = range(tasks)
    for at in range(0, tasks, crowd.AT_ONCE):
        await asyncio.gather(*(_submit(bus, place, f"t{n}", "patient") for n in numbers[at : at + crowd.AT_ONCE]))
    await _until(lambda: all((place / f"t{n}").exists() for n in numbers))
    return await _timed(lambda: bus.kill(everything=True, why="measured"))


async def _timed(kill: Callable[[], Awaitable[dict[str, Any]]]) -> float:
    began = time.perf_counter()
    receipt = await kill()
    seconds = time.perf_counter() - began
    if not receipt["verified"]:
        raise SystemExit(f"not verified: {receipt}")
    return seconds


def main() -> int:
    results = crowd.published(measure, TASKS, RESULTS)
    missed = 0
    for name, mark in MARKS.items():
        reached = mark.reached(results[name])
        missed += not reached
        print(f"{name:20} {results[name]:8.3f}   mark: {mark}{'' if reached else '   MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
