"""Calls that travel together: whatever becomes of one batch, everyone hears of it and the next one leaves."""

import asyncio
from typing import Any

import pytest

from interlock.cluster.calls import Batcher, NeverCame, Silent, Unreachable, insist
from interlock.gather import Gather
from interlock.orchestrator.watches import Watches
from interlock.schemas import entries as e
from interlock.schemas.errors import LedgerStalled, Overloaded, StaleIncarnation, StoreAway
from interlock.testing.virtual_time import run


@pytest.mark.parametrize(
    "error", [RuntimeError("the cluster"), NeverCame("creation task"), Overloaded(what="1 task is live", bound=1, retry_after=1)]
)
def test_a_batch_that_fails_fails_alone(error: Exception) -> None:
    async def main() -> None:
        answers: list[Any] = [error, [(True, 1)], [(True, 1), (True, 2)], [(True, 3)]]

        async def send(calls: list[tuple[Any, ...]]) -> list[tuple[bool, Any]]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return list(answer)

        batcher = Batcher(send)
        both = await asyncio.gather(batcher("x"), batcher("y"), return_exceptions=True)
        assert [type(one) for one in both] == [type(error)] * 2
        assert await asyncio.wait_for(batcher("x"), 1) == 1
        with pytest.raises(ValueError, match="zip"):  # more answers than calls
            await asyncio.wait_for(batcher("x"), 1)
        assert await asyncio.wait_for(batcher("x"), 1) == 3

    run(main())


class Frozen:
    """The method of an actor that never answers."""

    async def remote(self) -> tuple[bool, Any]:
        await asyncio.Event().wait()
        raise AssertionError


def test_a_frozen_actor_is_waited_for_so_long_and_no_longer() -> None:
    async def main() -> float:
        with pytest.raises(Silent, match="no answer within 30 s"):
            await insist(Frozen(), seconds=30)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30)


class Followed:
    """The method of a supervisor that stood still, and that another one has followed; then of that one."""

    def __init__(self) -> None:
        self.calls = 0

    async def remote(self) -> tuple[bool, Any]:
        self.calls += 1
        stale = StaleIncarnation(incarnation=1, current=2)
        return (False, stale.to_wire()) if self.calls < 3 else (True, "granted")


def test_what_an_earlier_supervisor_refuses_is_asked_of_the_next_one() -> None:
    assert run(insist(Followed())) == "granted"
    with pytest.raises(Unreachable, match="Incarnation 1"):
        run(insist(Followed(), seconds=0.01))


class Backend:
    """Answers the first call when it is told to, all others at once."""

    def __init__(self) -> None:
        self.first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.calls = 0

    async def outcomes(self, driver: str, fresh: list[str], got: list[str], first: bool, seconds: float) -> dict[str, Any]:
        self.calls += 1
        if self.calls == 1:
            return await self.first
        return {task: {"outcome": "success"} for task in fresh}


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_who_asks_while_a_call_fails_is_told_and_the_next_is_answered(turns: int) -> None:
    async def main() -> None:
        backend = Backend()
        gather = Gather(backend)  # type: ignore[arg-type]
        one = asyncio.create_task(gather.outcome("1"))
        await asyncio.sleep(0.05)
        two = asyncio.create_task(gather.outcome("2"))
        for _ in range(turns):
            await asyncio.sleep(0)
        backend.first.set_exception(OSError("gone"))
        ends = await asyncio.wait_for(asyncio.gather(one, two, return_exceptions=True), 5)
        assert isinstance(ends[0], OSError)
        assert await asyncio.wait_for(gather.outcome("3"), 1) == {"outcome": "success"}

    run(main())


def test_who_waits_for_an_end_waits_through_a_ledger_that_is_away() -> None:
    async def main() -> None:
        backend = Backend()
        gather = Gather(backend)  # type: ignore[arg-type]
        for error in (LedgerStalled(since="", problem="away", retry_after=5), StoreAway(path="db", problem="away")):
            backend.calls, backend.first = 0, asyncio.get_running_loop().create_future()
            one = asyncio.create_task(gather.outcome("1"))
            await asyncio.sleep(0.05)
            two = asyncio.create_task(gather.outcome("2"))
            backend.first.set_exception(error)
            assert await asyncio.wait_for(asyncio.gather(one, two), 5) == [{"outcome": "success"}] * 2

    run(main())


class Live:
    """An engine in which two tasks live."""

    def __init__(self) -> None:
        self.then: dict[str, list[Any]] = {"one": [], "two": []}

    def is_live(self, task: str) -> bool:
        return task in self.then

    def when_ended(self, task: str, then: Any) -> None:
        self.then[task].append(then)


def test_a_first_call_that_comes_late_does_not_forget_what_those_after_it_have_named() -> None:
    async def main() -> None:
        engine = Live()
        watches = Watches(engine, lambda task: None)  # type: ignore[arg-type]
        newer = asyncio.create_task(watches.outcomes("drv", ["one", "two"], [], True, 20))
        await asyncio.sleep(1)
        late = asyncio.create_task(watches.outcomes("drv", ["one"], [], True, 20))  # made again, to the next orchestrator
        assert await newer == {}
        for then in engine.then["two"]:
            then(e.TaskEnded("success", "", None, "", "", None, "trusted"))
        assert [*(await late or {})] == ["two"]

    run(main())


class Forgetful:
    """The first call stands until its time is over; all others are answered with the ends of what they name."""

    def __init__(self) -> None:
        self.named: list[tuple[list[str], bool]] = []

    async def outcomes(self, driver: str, fresh: list[str], got: list[str], first: bool, seconds: float) -> dict[str, Any]:
        self.named.append((list(fresh), first))
        if len(self.named) > 1:
            return {task: {"outcome": "success"} for task in fresh}
        await asyncio.sleep(seconds)
        return {}


def test_what_was_named_and_does_not_come_is_named_again() -> None:
    async def main() -> None:
        backend = Forgetful()
        assert await Gather(backend).outcome("one") == {"outcome": "success"}  # type: ignore[arg-type]
        assert backend.named == [(["one"], True), (["one"], True)]

    run(main())
