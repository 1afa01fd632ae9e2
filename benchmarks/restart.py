"""How soon a bus with many live tasks routes again after its orchestrator died: `python -m benchmarks.restart [TASKS]`.

Nine of ten tasks wait for a slow agent, the others wake every four seconds; none is parked. The orchestrator is ended with SIGKILL.
Measured is when the next one has carried out what some workflow asked for, and when a task that is submitted at that moment has its result.
"""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import crowd, waiting
from interlock.aio import AsyncBus
from interlock.cluster.driver import start

RESULTS = Path(__file__).with_name("restart.json")
TASKS = 10_000
MOST_SECONDS, STILL_SECONDS = 5.0, 10


async def measure(tasks: int) -> dict[str, Any]:
    """The figures of one run."""
    with TemporaryDirectory() as folder:
        async with await start(waiting.app, folder=Path(folder)) as bus:
            await crowd.submit(bus, tasks, lambda n: "agent" if n % 10 else "ticks")
            await _until_dispatched(bus, tasks)
            return {"live_tasks": tasks, **await crowd.restart(bus, Path(folder))}


async def _until_dispatched(bus: AsyncBus, tasks: int) -> None:
    await crowd.until(bus, "live_dispatches", tasks - tasks // 10)
    await asyncio.sleep(STILL_SECONDS)


def main() -> int:
    results = crowd.published(measure, TASKS, RESULTS)
    if results["routes_after_kill_s"] > MOST_SECONDS:
        print(f"Above the mark: with {TASKS:,} live tasks it shall route again within {MOST_SECONDS:g} s.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
