"""What the benchmarks about many tasks share: submitting a crowd, and a look at the processes of the bus."""

import asyncio
import time
from collections.abc import Callable
from itertools import islice

import psutil

from benchmarks import waiting
from interlock.aio import AsyncBus

AT_ONCE, PATIENCE = 400, 900


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
