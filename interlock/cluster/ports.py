"""The ports of engine, supervisor and gateway, over Ray."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from interlock.cluster.calls import Batcher, Unreachable, ask, insist
from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.errors import from_wire
from interlock.schemas.ports import Grant, PeerGone, Reservation
from interlock.schemas.record import Receipt

_LOG = logging.getLogger("interlock.cluster")

WARDEN_SECONDS = 7.0
UNVERIFIED = "unverified"

Handle = Any
"""A Ray actor handle: Ray's own type has none of the methods."""


class RayPeer:
    """`Peer`: a replica, runner or gateway in its own process."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def exchange(self, request: bytes) -> bytes:
        answer: bytes = await ask(self._handle.exchange, request)
        return answer


class RayBudgets:
    """`Budgets`: the supervisor's meters. What many ask for at once goes as one call; while the supervisor is away, everyone waits."""

    def __init__(self, supervisor: Handle) -> None:
        self._batch = Batcher(lambda calls: insist(supervisor.budgets, calls))

    async def open(self, task: str, limits: Amounts, accepted: int) -> None:
        await self._batch("open", task, dict(limits), accepted)

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        grants = await self._batch("reserve", [tuple(one) for one in reservations])
        return [Grant(id, units, from_wire(error) if error else None) for id, units, error in grants]

    async def settle(self, id: str, actual: Amounts) -> None:
        await self._batch("settle", id, dict(actual))

    async def close(self, task: str) -> None:
        await self._batch("close", task)

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        used: dict[str, tuple[Amount, Amount, Amount | None]] = await self._batch("used", task)
        return used


class RayOrders:
    """`Orders`: the orchestrator, as the supervisor tells it of a kill."""

    def __init__(self, orchestrator: Callable[[], Handle]) -> None:
        self._orchestrator = orchestrator

    async def order(self, order: str, task: str, what: str, by: str, why: str) -> bool:
        done: bool = await ask(self._orchestrator().order, order, task, what, by, why)
        return done

    async def receipt(self, receipt: Receipt) -> None:
        await ask(self._orchestrator().receipt, receipt)


class RayHosts:
    """`Hosts`: the peers' processes. `handle` finds a peer by its incarnation."""

    def __init__(self, incarnations: Callable[[], list[str]], handle: Callable[[str], Handle], lost: Callable[[str, str], None]) -> None:
        self._incarnations, self._handle, self._lost = incarnations, handle, lost

    def incarnations(self) -> list[str]:
        return self._incarnations()

    async def cancel(self, incarnation: str, task: str) -> bool:
        done: bool = await ask(self._handle(incarnation).cancel, task)
        return done

    async def lost(self, incarnation: str, why: str) -> None:
        self._lost(incarnation, why)


class RayProcesses:
    """`Processes` over the wardens of all nodes. A warden that does not answer holds up none of the others."""

    def __init__(self, wardens: Callable[[], list[Handle]]) -> None:
        self._wardens = wardens

    async def holders(self, task: str) -> list[str]:
        return [name for found in await self._all("holders", task) for name in found]

    async def strays(self, task: str) -> list[str]:
        return [name for found in await self._all("strays", task) for name in found]

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        """What the warden says on whose node it ran; the others know nothing of it and call it unverified."""
        names = list(incarnations)
        said: dict[str, str] = dict.fromkeys(names, UNVERIFIED)
        for found in await self._all("end", names):
            said.update({name: how for name, how in found.items() if how != UNVERIFIED})
        return said

    async def end_task(self, task: str) -> str:
        said = await self._all("end_task", task)
        return next((how for how in (UNVERIFIED, "killed") if how in said), "gone")

    async def _all(self, method: str, *args: Any) -> list[Any]:
        wardens = self._wardens()
        calls = [asyncio.wait_for(ask(getattr(warden, method), *args), WARDEN_SECONDS) for warden in wardens]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, PeerGone | Unreachable | TimeoutError):
                raise answer
        missing = [answer for answer in answers if isinstance(answer, BaseException)]
        if missing and len(missing) == len(answers):
            raise Unreachable("no warden answers")
        return [answer for answer in answers if not isinstance(answer, BaseException)]
