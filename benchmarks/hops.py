"""Hops on the bus against plain Ray calls, in one run on one Ray.

A hop is one ask, sent and received: validated on both ways, durable before the workflow goes on. A plain call is an actor method that
returns its argument of the same size. A hop alone is what one more ask adds to a task: the difference between a task of four asks and
one of none, submitted in turn, divided by four. Plain calls and hops take turns, so that both meet the machine in the same mood.
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

ROUNDS = 5
TURNS, CALLS_A_TURN, PIPELINED = 30, 5, 4000
CROWDS = (1, 100, 1000)


async def measure() -> list[dict[str, Any]]:
    """The figures of each round: rates per second, times in milliseconds."""
    with TemporaryDirectory() as folder:
        async with await start(relay.app, folder=Path(folder)) as bus:
            plain = PlainCalls()
            await _crowd(bus, 20)
            return [await _round(bus, plain) for _ in range(ROUNDS)]


async def _round(bus: AsyncBus, plain: "PlainCalls") -> dict[str, Any]:
    latencies = await _alone(bus, plain)
    plain_calls_per_s = plain.rate()
    crowds = {str(size): await _crowd(bus, size) for size in CROWDS}
    return {
        "plain_calls_per_s": plain_calls_per_s,
        "hops_per_s": crowds[str(CROWDS[-1])],
        **latencies,
        "hops_per_s_by_tasks": crowds,
    }


class PlainCalls:
    """An actor of plain Ray that returns what it gets."""

    def __init__(self) -> None:
        @ray.remote(num_cpus=0)
        class Plain:
            async def echo(self, data: bytes) -> bytes:
                return data

        self._actor, self._data = Plain.remote(), relay.parcel().encoded()  # type: ignore[attr-defined]
        self.one()

    def one(self) -> None:
        ray.get(self._actor.echo.remote(self._data))

    def rate(self) -> float:
        """Calls per second where all are under way at once."""
        began = time.perf_counter()
        ray.get([self._actor.echo.remote(self._data) for _ in range(PIPELINED)])
        return PIPELINED / (time.perf_counter() - began)


async def _alone(bus: AsyncBus, plain: PlainCalls) -> dict[str, float]:
    """Medians of one thing at a time, in turns: plain calls, a task with four asks, a task without any."""
    calls: list[float] = []
    tasks: dict[int, list[float]] = {relay.STAGES: [], 0: []}
    for _ in range(TURNS):
        for _ in range(CALLS_A_TURN):
            began = time.perf_counter()
            plain.one()
            calls.append(time.perf_counter() - began)
        for stages, measured in tasks.items():
            began = time.perf_counter()
            await _one(bus, stages)
            measured.append(time.perf_counter() - began)
    task_ms, bare_ms = (statistics.median(measured) * 1e3 for measured in tasks.values())
    return {"plain_call_ms": statistics.median(calls) * 1e3, "hop_ms": (task_ms - bare_ms) / relay.STAGES, "task_ms": task_ms}


async def _crowd(bus: AsyncBus, size: int) -> float:
    """Hops per second of `size` tasks at once."""
    began = time.perf_counter()
    await asyncio.gather(*(_one(bus) for _ in range(size)))
    return size * relay.STAGES / (time.perf_counter() - began)


async def _one(bus: AsyncBus, stages: int = relay.STAGES) -> None:
    task = await bus.submit(relay.app.workflows["relay"], relay.parcel(stages))
    await task.result()
