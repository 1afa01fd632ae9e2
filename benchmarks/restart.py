"""How soon a bus with many live tasks routes again after its orchestrator died: `python -m benchmarks.restart [TASKS]`.

Nine of ten tasks wait for a slow agent, the others wake every four seconds; none is parked. The orchestrator is ended with SIGKILL.
Measured is, from the start of the new process, when the first message of a task that is submitted then is sent, and when that task has its
result.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks import crowd, waiting
from interlock.aio import AsyncBus
from interlock.cluster.driver import start
from interlock.orchestrator.ledger.reader import Reader
from interlock.schemas import entries as e
from interlock.schemas.places import LEDGER_FILE

RESULTS = Path(__file__).with_name("restart.json")
TASKS = 10_000
MOST_SECONDS, STILL_SECONDS = 5.0, 10
ORCHESTRATOR = "OrchestratorActor"


async def measure(tasks: int) -> dict[str, Any]:
    """The figures of one run."""
    with TemporaryDirectory() as folder:
        async with await start(waiting.app, folder=Path(folder)) as bus:
            await crowd.submit(bus, tasks, lambda n: "agent" if n % 10 else "ticks")
            await _until_dispatched(bus, tasks)
            with_reader = Reader(Path(folder) / LEDGER_FILE)
            (before,) = crowd.actors()[ORCHESTRATOR]
            began = time.time()
            before.kill()
            task = await bus.submit(waiting.app.workflows["wait"], waiting.request("go"), id="probe")
            await task.result()
            ended = time.time()
            (after,) = [one for one in crowd.actors()[ORCHESTRATOR] if one.pid != before.pid]
            entries = with_reader.all_entries(limit=10_000_000)
            with_reader.close()
            return {**_figures(entries, task.id, began, ended, after), "live_tasks": (await bus.status())["live_tasks"]}


async def _until_dispatched(bus: AsyncBus, tasks: int) -> None:
    await crowd.until(bus, "live_dispatches", tasks - tasks // 10)
    await asyncio.sleep(STILL_SECONDS)


def _figures(entries: list[e.Entry], probe: str, began: float, ended: float, after: psutil.Process) -> dict[str, Any]:
    started = after.create_time()
    epoch = entries[-1].epoch
    sent = next(entry.at for entry in entries if entry.task == probe and entry.kind == e.MessageSent.KIND) / 1e6
    read = next(entry.at for entry in entries if entry.epoch == epoch) / 1e6
    again = sum(1 for entry in entries if entry.epoch == epoch and entry.kind == e.DispatchAttempted.KIND)
    return {
        "entries": len(entries),
        "noticed_after_s": started - began,
        "read_after_s": read - started,
        "routes_after_s": sent - started,
        "result_after_s": ended - started,
        "handed_out_again": again,
    }


def main() -> int:
    results = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else TASKS))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    if results["routes_after_s"] > MOST_SECONDS:
        print(f"Above the mark: with {TASKS:,} live tasks it shall route again within {MOST_SECONDS:g} s.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
