"""Hops on the bus against plain Ray calls, in one run on one Ray.

A hop is one ask, sent and received: validated on both ways, durable before the workflow goes on. A plain call is an actor method that
returns its argument of the same size. A hop alone is what one more ask adds to a task: the difference between a task of four asks and
one of none, submitted in turn, divided by four.
"""

import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from benchmarks import relay
from interlock.aio import AsyncBus
from interlock.cluster.driver import start

ALONE_CALLS, ALONE_TASKS, PIPELINED = 300, 60, 6000
CROWDS = (1, 100, 1000)


async def measure() -> dict[str, Any]:
    """All figures: rates per second, times in milliseconds, two ratios."""
    with TemporaryDirectory() as folder:
        async with await start(relay.app, folder=Path(folder)) as bus:
            await _crowd(bus, 20)
            plain = _plain()
            alone, bare = await _alone(bus)
            crowds = {str(size): await _crowd(bus, size) for size in CROWDS}
    hop_ms = (alone - bare) / relay.STAGES
    hops_per_s = crowds[str(CROWDS[-1])]
    return {
        **plain,
        "hops_per_s": hops_per_s,
        "hop_ms": hop_ms,
        "task_ms": alone,
        "hops_per_s_by_tasks": crowds,
        "rate_ratio": hops_per_s / plain["plain_calls_per_s"],
        "latency_ratio": hop_ms / plain["plain_call_ms"],
    }


def _plain() -> dict[str, float]:
    @ray.remote(num_cpus=0)
    class Plain:
        async def echo(self, data: bytes) -> bytes:
            return data

    actor, data = Plain.remote(), relay.parcel().encoded()  # type: ignore[attr-defined]
    ray.get(actor.echo.remote(data))
    times = []
    for _ in range(ALONE_CALLS):
        began = time.perf_counter()
        ray.get(actor.echo.remote(data))
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    ray.get([actor.echo.remote(data) for _ in range(PIPELINED)])
    rate = PIPELINED / (time.perf_counter() - began)
    ray.kill(actor)
    return {"plain_calls_per_s": rate, "plain_call_ms": statistics.median(times) * 1e3}


async def _alone(bus: AsyncBus) -> tuple[float, float]:
    """Milliseconds from submit to result of one task alone, the medians: with four asks, and without any."""
    times: dict[int, list[float]] = {relay.STAGES: [], 0: []}
    for _ in range(ALONE_TASKS):
        for stages, measured in times.items():
            began = time.perf_counter()
            await _one(bus, stages)
            measured.append(time.perf_counter() - began)
    return statistics.median(times[relay.STAGES]) * 1e3, statistics.median(times[0]) * 1e3


async def _crowd(bus: AsyncBus, size: int) -> float:
    """Hops per second of `size` tasks at once."""
    began = time.perf_counter()
    await asyncio.gather(*(_one(bus) for _ in range(size)))
    return size * relay.STAGES / (time.perf_counter() - began)


async def _one(bus: AsyncBus, stages: int = relay.STAGES) -> None:
    task = await bus.submit(relay.app.workflows["relay"], relay.parcel(stages))
    await task.result()
