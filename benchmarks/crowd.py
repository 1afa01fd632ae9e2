"""What the benchmarks about many tasks share: submitting a crowd, a look at the processes of the bus, and the death of its orchestrator."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks import waiting
from interlock.aio import AsyncBus
from interlock.orchestrator.ledger.reader import Reader
from interlock.schemas import entries as e
from interlock.schemas.places import LEDGER_FILE

AT_ONCE, PATIENCE = 400, 900
ORCHESTRATOR = "OrchestratorActor"


def published(measure: Callable[[int], Coroutine[Any, Any, dict[str, Any]]], tasks: int, file: Path) -> dict[str, Any]:
    """Measure with so many tasks, or as many as the command line says; print the figures and write them down."""
    results = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else tasks))
    text = json.dumps(results, indent=2)
    file.write_text(text + "\n")
    print(text)
    return results


async def submit(bus: AsyncBus, tasks: int, how: Callable[[int], str]) -> float:
    """Submit so many tasks, a few hundred at once; the seconds that it took."""
    began, numbers = time.perf_counter(), iter(range(tasks))
    workflow = waiting.app.workflows["wait"]
    while some := list(islice(numbers, AT_ONCE)):
        await asyncio.gather(*(bus.submit(workflow, waiting.request(how(n)), id=f"t{n}") for n in some))
    return time.perf_counter() - began


async def until(bus: AsyncBus, counted: str, number: int) -> None:
    """Wait until so many are counted in the bus's status."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if (await bus.status())[counted] >= number:
                return
            await asyncio.sleep(1)


def actors() -> dict[str, list[psutil.Process]]:
    """The processes of the bus's actors below this one, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            title = process.cmdline()[0] if process.cmdline() else ""
        except psutil.Error:
            continue
        if title.startswith("ray::") and not title.startswith("ray::IDLE"):
            found.setdefault(title.removeprefix("ray::").partition(".")[0], []).append(process)
    return found


def memory() -> dict[str, float]:
    """The proportional set size (MB) of each kind of actor: shared pages are counted once over all."""
    return {name: sum(process.memory_full_info().pss for process in processes) / 1e6 for name, processes in sorted(actors().items())}


async def restart(bus: AsyncBus, folder: Path) -> dict[str, float]:
    """End the orchestrator with SIGKILL and submit a task at once.

    The seconds from that moment until the next orchestrator has read its ledger, until it has routed something (carried out what a
    workflow asked for), and until the task has its result; the latter two hang on how soon this driver calls again. `started_after_kill_s`
    is when the new process began, negative where Ray had it waiting. `handed_out_again` are dispatches that no replica held any more.
    """
    (before,) = actors()[ORCHESTRATOR]
    killed = time.time()
    before.kill()
    task = await bus.submit(waiting.app.workflows["wait"], waiting.request("go"), id="probe")
    await task.result()
    ended = time.time()
    (after,) = [one for one in actors()[ORCHESTRATOR] if one.pid != before.pid]
    with closing(Reader(folder / LEDGER_FILE)) as reader:
        epochs = [entry for entry in reader.entries("") if entry.kind == e.EpochStarted.KIND]
        entries = reader.all_entries(epochs[-1].seq - 1, limit=10_000_000)
    routed = next(entry.at for entry in entries if entry.kind in (e.TimerSet.KIND, e.MessageSent.KIND))
    return {
        "started_after_kill_s": after.create_time() - killed,
        "read_after_kill_s": entries[0].at / 1e6 - killed,
        "routes_after_kill_s": routed / 1e6 - killed,
        "result_after_kill_s": ended - killed,
        "handed_out_again": sum(1 for entry in entries if entry.kind == e.DispatchAttempted.KIND),
    }
