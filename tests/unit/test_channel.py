"""The law of a channel: whatever is lost, late or overtaken, every frame arrives once and in order, in both directions, and nothing is
forgotten before it is durable; a new orchestrator hears of all that the one before did not take in."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interlock.actors.mailbox import Mailbox
from interlock.orchestrator.channel import Channel
from interlock.schemas.errors import StaleEpoch
from interlock.schemas.frames import Forget, LetGo, carried, pack
from interlock.schemas.ports import PeerGone
from interlock.testing.virtual_time import run


class Echo(Mailbox):
    """Notes what it takes, and says it back after a while."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.open: set[str] = set()
        self._chance = chance

    def take(self, frame: Any) -> None:
        self.taken.append(frame.task)
        self.open.add(frame.task)
        asyncio.get_running_loop().call_later(self._chance.choice((0.0, 0.01, 0.3)), self._say, frame.task)

    def _say(self, task: str) -> None:
        self.open.discard(task)
        self.emit(LetGo(task, "1"))

    def reopen(self) -> None:
        """What is open is said in time."""

    def holds(self) -> list[str]:
        return sorted(self.open)

    async def cancel(self, task: str) -> bool:
        return True


class Line:
    """A peer at the end of a line that loses and delays."""

    def __init__(self, host: Mailbox, chance: random.Random, loss: float, late: float) -> None:
        self.host, self.chance, self.loss, self.late = host, chance, loss, late
        self.calls = 0

    async def exchange(self, request: bytes) -> bytes:
        self.calls += 1
        await self._travel()
        answer = await self.host.exchange(request)
        await self._travel()
        return answer

    async def _travel(self) -> None:
        await asyncio.sleep(self.late * self.chance.random())
        if self.chance.random() < self.loss:
            raise OSError("lost")


class End:
    """The orchestrator's end: what came through, acknowledged a moment later (or never: it dies before)."""

    def __init__(self, line: Any, epoch: int, durable: float | None) -> None:
        self.received: list[str] = []
        self.held: list[str] = []
        self.closed: list[bool] = []
        self.durable: list[str] = []
        self._after = durable
        self.channel = Channel("echo-1", "echo", line, epoch, receive=self._receive, opened=self._opened, closed=self._closed)
        self.channel.start()

    def _opened(self, channel: Channel, holds: list[str]) -> None:
        self.held = holds

    def _closed(self, channel: Channel, stale: bool) -> None:
        self.closed.append(stale)

    def _receive(self, channel: Channel, frames: list[Any]) -> None:
        assert channel.open, "what a peer holds is known before it says anything"
        self.received += [frame.dispatch for frame in frames]
        number, durable = channel.received, list(self.received)
        if self._after is not None:
            asyncio.get_running_loop().call_later(self._after, self._acknowledge, number, durable)

    def _acknowledge(self, number: int, durable: list[str]) -> None:
        if self.channel.alive:
            self.durable = max(self.durable, durable, key=len)
            self.channel.acknowledge(number)


async def talk(seed: int, loss: float, late: float, number: int) -> tuple[Echo, End]:
    chance = random.Random(seed)
    host = Echo(chance)
    end = End(Line(host, chance, loss, late), 1, 0.01)
    for n in range(number):
        end.channel.send(Forget(str(n)))
        if chance.random() < 0.5:
            await asyncio.sleep(0.2 * chance.random())
    await asyncio.sleep(600)
    return host, end


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.sampled_from((0.0, 0.1, 0.4)), st.sampled_from((0.0, 0.05, 0.5)), st.integers(1, 30))
@example(289, 0.0, 0.5, 5)
def test_every_frame_arrives_once_and_in_order(seed: int, loss: float, late: float, number: int) -> None:
    host, end = run(talk(seed, loss, late, number), limit=10_000)
    assert host.taken == [str(n) for n in range(number)]
    assert sorted(end.received, key=int) == host.taken
    assert len(set(end.received)) == number


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.sampled_from((0.0, 0.1, 0.4)), st.sampled_from((0.0, 0.05, 0.5)), st.integers(1, 20), st.floats(0, 2))
def test_a_new_orchestrator_hears_all_that_the_one_before_did_not_keep(
    seed: int, loss: float, late: float, number: int, after: float
) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        host = Echo(chance)
        line = Line(host, chance, loss, late)
        first = End(line, 1, chance.choice((0.0, 0.3, None)))
        for n in range(number):
            first.channel.send(Forget(str(n)))
            await asyncio.sleep(0.1 * chance.random())
        await asyncio.sleep(after)
        first.channel.detach()
        second = End(line, 2, 0.0)
        await asyncio.sleep(600)
        assert second.channel.open
        assert host.taken == [str(n) for n in range(len(host.taken))]
        assert {*first.durable, *second.received} == set(host.taken)
        assert set(second.held) <= set(second.received)
        assert len(set(second.received)) == len(second.received)

    run(main(), limit=10_000)


def packed(first: int, acknowledged: int, *tasks: str) -> bytes:
    return pack([1, first, acknowledged, 0, False], carried(Forget(task) for task in tasks))


def test_an_acknowledgement_that_overtook_its_frames_waits_for_them() -> None:
    async def main() -> None:
        host = Echo(random.Random(1))
        await host.exchange(packed(1, 0))
        host.emit(LetGo("said", "1"))
        overtaking = asyncio.create_task(host.exchange(packed(2, 1, "second")))
        await asyncio.sleep(1)
        assert len(host._outbox) == 1
        await host.exchange(packed(1, 0, "first"))
        await overtaking
        assert host.taken == ["first", "second"]
        assert [frame.dispatch for frame in host._outbox if frame.dispatch == "said"] == []

    run(main())


def test_an_empty_exchange_that_comes_late_does_not_take_the_place_of_a_full_one() -> None:
    async def main() -> None:
        host = Echo(random.Random(1))
        await host.exchange(packed(1, 0))
        calls = [packed(2, 0, "second"), packed(2, 0), packed(1, 0, "first")]
        for call in calls:
            calls[calls.index(call)] = asyncio.create_task(host.exchange(call))  # type: ignore[call-overload]
            await asyncio.sleep(0)
        await asyncio.sleep(1)
        assert host.taken == ["first", "second"]

    run(main())


def test_an_empty_answer_that_comes_late_does_not_take_the_place_of_a_full_one() -> None:
    async def main() -> list[str]:
        end = End(Line(Echo(random.Random(1)), random.Random(1), 0.0, 0.0), 1, None)
        await asyncio.sleep(1)
        for first, said in ((2, ["second"]), (2, []), (1, ["first"])):
            end.channel._sequence(first, [LetGo(name, "1") for name in said])
        return end.received

    assert run(main()) == ["first", "second"]


def test_an_idle_channel_is_silent() -> None:
    async def main() -> int:
        chance = random.Random(1)
        line = Line(Echo(chance), chance, 0.0, 0.01)
        end = End(line, 1, 0.0)
        end.channel.send(Forget("1"))
        await asyncio.sleep(100)
        return line.calls

    assert run(main()) < 6


def test_a_peer_of_a_newer_orchestrator_refuses_the_older() -> None:
    async def main() -> None:
        chance = random.Random(1)
        host = Echo(chance)
        line = Line(host, chance, 0.0, 0.0)
        old, new = End(line, 1, 0.0), End(line, 2, 0.0)
        await asyncio.sleep(1)
        assert (old.closed, new.closed) == ([True], [])
        assert not old.channel.alive
        with pytest.raises(StaleEpoch):
            await host.exchange(old.channel._request())
        with pytest.raises(StaleEpoch):
            await host.exchange(pack([1, 1, 0, 0, False], carried([Forget("1")])))
        assert host.taken == []

    run(main())


def test_a_process_that_has_ended_closes_its_channel_once() -> None:
    class Gone:
        async def exchange(self, request: bytes) -> bytes:
            raise PeerGone

    async def main() -> list[bool]:
        end = End(Gone(), 1, 0.0)
        end.channel.load = 3
        end.channel.send(Forget("1"))
        await asyncio.sleep(1)
        await end.channel.idle()
        return end.closed

    assert run(main()) == [False]


@pytest.mark.parametrize("trouble", [UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), KeyError("task"), None])
def test_a_peer_that_fails_in_an_unforeseen_way_counts_as_gone(trouble: Exception | None) -> None:
    class Broken:
        async def exchange(self, request: bytes) -> bytes:
            if trouble is not None:
                raise trouble
            return b"no frames at all"

    async def main() -> list[bool]:
        end = End(Broken(), 1, None)
        await asyncio.sleep(1)
        end.channel.send(Forget("1"))
        await asyncio.sleep(1)
        return end.closed

    assert run(main()) == [False]
