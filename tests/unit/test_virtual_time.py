"""The virtual-time loop: jumps, keeps order, and reports what can never go on."""

import asyncio
import time

import pytest

from interlock.testing.virtual_time import Deadlock, VirtualClock, run


def test_hours_pass_in_no_time() -> None:
    async def main() -> tuple[float, int]:
        clock = VirtualClock(5)
        await asyncio.sleep(7_200)
        return asyncio.get_running_loop().time(), clock.now()

    began = time.perf_counter()
    assert run(main()) == (7_200, 5 + 7_200_000_000)
    assert time.perf_counter() - began < 5


def test_timers_fire_in_order_also_at_large_times() -> None:
    async def main() -> list[float]:
        order: list[float] = []

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            order.append(delay)

        await asyncio.gather(*(one(delay) for delay in (3, 1, 2, 1.000001, 0)))
        return order

    assert run(main(), start=1.8e9) == [0, 1, 1.000001, 2, 3]


def test_timeouts_work() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(main()) == 30


def test_a_deadlock_names_who_waits() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.Event().wait(), name="the-one")
        await task

    with pytest.raises(Deadlock, match="the-one"):
        run(main())


def test_an_endless_poll_is_a_deadlock() -> None:
    async def main() -> None:
        for _ in iter(int, 1):
            await asyncio.sleep(10)

    with pytest.raises(Deadlock, match="past the limit"):
        run(main(), limit=1_000)


def test_threads_run_in_place() -> None:
    def fail() -> None:
        raise ValueError("no")

    async def main() -> int:
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(fail)
        return await asyncio.to_thread(lambda: 7)

    assert run(main()) == 7


def test_leftover_tasks_are_cancelled() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        asyncio.create_task(background())
        await asyncio.sleep(0)

    run(main())
    assert ended == ["cancelled"]
