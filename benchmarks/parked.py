"""What parked tasks cost in memory: `python -m benchmarks.parked [TASKS]` starts a bus, submits so many that wait for a human, a day or a
message, lets them leave memory, and compares the memory of all actors with that of the idle bus before. Then one of them is answered, and
the orchestrator is ended with SIGKILL. 100,000 take some minutes.
"""

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import crowd, waiting
from interlock.aio import AsyncBus
from interlock.cluster.driver import start

RESULTS = Path(__file__).with_name("parked.json")
TASKS = 100_000
MOST_MB = 1000.0
WARM_UP, STILL_SECONDS = 400, 30


async def measure(tasks: int) -> dict[str, Any]:
    """The figures of one run."""
    with TemporaryDirectory() as folder:
        async with await start(waiting.app, folder=Path(folder)) as bus:
            warm = [await bus.submit(waiting.app.workflows["wait"], waiting.request("go")) for _ in range(WARM_UP)]
            await asyncio.gather(*(task.result() for task in warm))
            await asyncio.sleep(STILL_SECONDS)
            idle = crowd.memory()
            seconds = await crowd.submit(bus, tasks, lambda n: waiting.PARKED[n % len(waiting.PARKED)])
            at_most = sum(crowd.memory().values())
            await crowd.until(bus, "parked_tasks", tasks)
            await asyncio.sleep(STILL_SECONDS)
            parked = crowd.memory()
            added = {name: megabytes - idle.get(name, 0.0) for name, megabytes in parked.items()}
            answered = await _answer_one(bus)
            restarted = await crowd.restart(bus, Path(folder))
    return {
        "parked_tasks": tasks,
        "added_mb": sum(added.values()),
        "added_bytes_per_task": sum(added.values()) * 1e6 / tasks,
        "added_mb_by_actor": added,
        "idle_mb_by_actor": idle,
        "added_mb_while_they_came": at_most - sum(idle.values()),
        "submitted_per_s": tasks / seconds,
        "answered_after_ms": answered * 1e3,
        "restart": restarted,
    }


async def _answer_one(bus: AsyncBus) -> float:
    """How long one of them takes from a human's answer to its end: it is read, replayed, and comes to its end."""
    item = (await bus.inbox.list())[0]
    began = time.perf_counter()
    await bus.inbox.approve(item["item"], by="bench")
    await bus.task(item["task"]).result()
    return time.perf_counter() - began


def main() -> int:
    results = crowd.published(measure, TASKS, RESULTS)
    if results["added_mb"] > MOST_MB:
        print(f"Above the mark: parked tasks, {TASKS:,} of them, shall add at most {MOST_MB:g} MB.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
