"""The wardens of all nodes as one: who is silent holds up nobody, and nothing is called verified without him."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from interlock.actors.supervisor.sweep import Pace, Sweep
from interlock.cluster.calls import Unreachable
from interlock.cluster.ports import RayProcesses
from interlock.schemas.ports import PeerGone
from interlock.schemas.record import Receipt
from interlock.testing.virtual_time import VirtualClock, run


class Method:
    def __init__(self, answer: Callable[..., Awaitable[Any]]) -> None:
        self.remote = answer


class Good:
    """A warden whose node runs `busy-1`."""

    def __init__(self) -> None:
        self.killed: list[str] = []

    def __getattr__(self, name: str) -> Method:
        async def answer(what: Any) -> tuple[bool, Any]:
            if name == "end":
                self.killed += what
                return True, dict.fromkeys(what, "killed")
            holders = [] if self.killed else ["busy-1"]
            return True, {"holders": holders, "strays": [], "end_tasks": "gone"}[name]

        return Method(answer)


class Silent:
    """A warden on a node that is frozen (`away=False`) or not to be reached."""

    def __init__(self, away: bool) -> None:
        self._away = away

    def __getattr__(self, name: str) -> Method:
        async def answer(what: Any) -> Any:
            if self._away:
                raise ActorUnavailableError("the node is away", None)
            await asyncio.Event().wait()

        return Method(answer)


class Peers:
    def __init__(self, warden: Good) -> None:
        self._warden = warden

    def incarnations(self) -> list[str]:
        return [] if self._warden.killed else ["busy-1"]

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        if self._warden.killed:
            raise PeerGone
        await asyncio.Event().wait()
        raise AssertionError

    async def lost(self, incarnation: str, why: str) -> None:
        raise AssertionError


class NoEngine:
    """Orders that nobody hears."""

    async def order(self, order: str, task: str, what: str, by: str, why: str) -> bool:
        raise AssertionError

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        return

    async def receipt(self, receipt: Receipt) -> None:
        raise AssertionError

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        raise Unreachable("there is no orchestrator")


@pytest.mark.parametrize("away", [False, True])
def test_one_silent_warden_keeps_nobody_alive_and_nothing_is_verified(away: bool) -> None:
    async def main() -> None:
        good, loop = Good(), asyncio.get_running_loop()
        ended: list[float] = []
        processes = RayProcesses(lambda: [Silent(away), good])
        sweep = Sweep("tsk_x", ["tsk_x"], NoEngine(), Peers(good), processes, VirtualClock(), lambda kind, data: None, Pace())
        verified = await sweep.run(lambda name: ended.append(loop.time()))
        assert good.killed == ["busy-1"]
        assert ended[0] < 7
        assert loop.time() < 8
        assert not verified
        assert sweep.found["busy-1"]["how"] == "killed"
        assert sweep.found["processes of the task"]["how"] == "unverified"

    run(main())


def test_without_any_warden_nobody_says_that_nobody_holds_it() -> None:
    async def main() -> None:
        nobody = RayProcesses(list)
        for look in (nobody.holders, nobody.strays, nobody.end_tasks):
            with pytest.raises(Unreachable):
                await look(["tsk_x"])

    run(main())
