"""The ports of engine, supervisor and gateway, over Ray."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from interlock.cluster.calls import LAST_PAUSE, Batcher, Unreachable, ask, insist
from interlock.schemas.budget import Amount, Amounts, wire_amounts
from interlock.schemas.errors import InterlockError, StorePaused, from_wire
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.ports import Grant, Left, PeerGone, Reservation, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder
from interlock.schemas.words import told

_LOG = logging.getLogger("interlock.cluster")

WARDEN_SECONDS = 2.0
"""For one warden's look: three of them fit into one look of a sweep, so that what the others see is acted on."""

END_SECONDS = 7.0
"""For one warden to end processes: longer than it tries itself."""

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
    """`Budgets`: the supervisor's meters. What many ask for at once goes as one call; while the supervisor is away, everyone waits, and
    while his journal cannot be written everyone but who would open a budget."""

    def __init__(self, supervisor: Handle) -> None:
        self._batch = Batcher(lambda calls: insist(supervisor.budgets, calls))

    def open(
        self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT
    ) -> Awaitable[None]:
        return self._batch("open", task, wire_amounts(limits), accepted, epoch, type, tenant)

    async def _patient(self, *call: Any) -> Any:
        while True:
            try:
                return await self._batch(*call)
            except StorePaused:
                await asyncio.sleep(LAST_PAUSE)

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        grants = await self._patient("reserve", [list(one) for one in reservations])
        return [Grant(id, units, from_wire(error) if error else None) for id, units, error in grants]

    async def settle(self, id: str, actual: Amounts) -> None:
        await self._patient("settle", id, dict(actual))

    async def forfeit(self, task: str, id: str) -> Amounts:
        cost: Amounts = await self._patient("forfeit", task, id)
        return cost

    async def close(self, tasks: list[str], epoch: int) -> None:
        await self._patient("close", tasks, epoch)

    async def overran(self, endpoint: str, model: str, answered: int, allowed: int) -> None:
        await self._patient("overran", endpoint, model, answered, allowed)

    async def turn(self, lane: str, id: str, task: str, tokens: int, limits: tuple[int | None, int | None]) -> float:
        wait: float = await self._patient("turn", lane, id, task, tokens, limits)
        return wait

    async def came_to(self, lane: str, id: str, tokens: int) -> None:
        await self._patient("came_to", lane, id, tokens)

    async def leave(self, lane: str, id: str) -> None:
        await self._patient("leave", lane, id)

    async def shut(self, lane: str, seconds: float) -> None:
        await self._patient("shut", lane, seconds)

    async def called_at(self, task: str, call: str) -> list[str]:
        gateways: list[str] = await self._patient("called_at", task, call)
        return gateways

    async def calls_of(self, task: str) -> list[str]:
        calls: list[str] = await self._patient("calls_of", task)
        return calls

    async def close_forgotten(self, epoch: int, kept: Sequence[str]) -> list[str]:
        calling: list[str] = await self._patient("close_forgotten", epoch, list(kept))
        return calling

    async def limited(self, task: str) -> Sequence[str]:
        meters: list[str] = await self._patient("limited", task)
        return meters

    async def declare(self, limits: Sequence[Sequence[Any]]) -> None:
        await self._patient("declare", [list(one) for one in limits])

    async def limit(self, scope: str, per: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        await self._patient("limit", scope, per, dict(limits), by, why)

    async def change(self, task: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        await self._patient("change", task, dict(limits), by, why)

    async def scopes(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._patient("scopes")
        return rows

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        used: dict[str, tuple[Amount, Amount, Amount | None]] = await self._patient("used", task)
        return used


Call = tuple[Any, ...]
"""The name of a method of `Budgets`, and its arguments."""


async def budget_calls(together: Callable[[Sequence[Call]], Awaitable[list[Any]]], calls: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """A batch of `RayBudgets` as the supervisor carries it out: per call its result, or its wire error."""
    asked = [("reserve", [Reservation(*one) for one in call[1]]) if call[0] == "reserve" else tuple(call) for call in calls]
    return [_answer(call[0], done) for call, done in zip(calls, await together(asked), strict=True)]


def _answer(name: str, done: Any) -> list[Any]:
    if isinstance(done, InterlockError):
        return [False, done.to_wire()]
    if isinstance(done, Exception):
        _LOG.error("a call of %s failed", name, exc_info=done)
        return [False, InterlockError(detail=f"the supervisor failed at {name}: {told(done)}").to_wire()]
    if name == "reserve":
        return [True, [[grant.id, grant.units, grant.error.to_wire() if grant.error else None] for grant in done]]
    return [True, done]


class RayOrders:
    """`Orders`: the orchestrator, as the supervisor tells it of a kill."""

    def __init__(self, orchestrator: Callable[[], Handle]) -> None:
        self._orchestrator = orchestrator

    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        done: Left = await ask(self._orchestrator().order, None, list(orders))
        return done

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        await ask(self._orchestrator().neared, about, meter, used, limit)

    async def stop_all(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        done: Left = await ask(self._orchestrator().order, stop, list(orders))
        return done

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        await ask(self._orchestrator().receipts, list(receipts))

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        names: list[str] = await ask(self._orchestrator().innocent, list(tasks), list(peers))
        return names


class RayHosts:
    """`Hosts`: the peers' processes. `handle` finds a peer by its incarnation."""

    def __init__(self, incarnations: Callable[[], list[str]], handle: Callable[[str], Handle], lost: Callable[[str, str], None]) -> None:
        self._incarnations, self._handle, self._lost = incarnations, handle, lost

    def incarnations(self) -> list[str]:
        return self._incarnations()

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        done: bool = await ask(self._handle(incarnation).cancel, list(tasks))
        return done

    async def lost(self, incarnation: str, why: str) -> None:
        self._lost(incarnation, why)


class RayProcesses:
    """`Processes` over the wardens of all nodes. A warden that does not answer holds up none of the others, and nothing is called gone
    without its word: what the others see is acted on, and `end_tasks` stays unverified."""

    def __init__(self, wardens: Callable[[], list[Handle]]) -> None:
        self._wardens = wardens

    async def holders(self, tasks: Sequence[str]) -> list[str]:
        said, _ = await self._all("holders", tasks)
        return [name for found in said for name in found]

    async def strays(self, tasks: Sequence[str]) -> list[str]:
        said, _ = await self._all("strays", tasks)
        return [name for found in said for name in found]

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        """What the warden says on whose node it ran; the others know nothing of it and call it unverified."""
        names = list(incarnations)
        said: dict[str, str] = dict.fromkeys(names, UNVERIFIED)
        calls = [asyncio.create_task(self._of(warden, "end", (names,), END_SECONDS)) for warden in self._all_wardens()]
        try:
            for call in asyncio.as_completed(calls):
                said.update({name: how for name, how in ((await call) or {}).items() if how != UNVERIFIED})
                if UNVERIFIED not in said.values():
                    break
        finally:
            for one in calls:
                one.cancel()
        return said

    async def inquire(self, incarnation: str, tasks: list[str]) -> tuple[dict[str, float], str]:
        """What the warden says on whose node it ran; nothing where none knows of it."""
        calls = (self._of(warden, "inquire", (incarnation, tasks), WARDEN_SECONDS) for warden in self._all_wardens())
        said = [answer for answer in await asyncio.gather(*calls) if answer is not None]
        return said[0] if said else ({}, "")

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        said, complete = await self._all("end_tasks", tasks)
        if not complete:
            return UNVERIFIED
        return next((how for how in (UNVERIFIED, "killed") if how in said), "gone")

    def _all_wardens(self) -> list[Handle]:
        wardens = self._wardens()
        if not wardens:
            raise Unreachable("no warden is known")
        return wardens

    async def _all(self, method: str, tasks: Sequence[str]) -> tuple[list[Any], bool]:
        """The answers of those wardens that answer, and whether all did."""
        answers = await asyncio.gather(*(self._of(warden, method, (list(tasks),), WARDEN_SECONDS) for warden in self._all_wardens()))
        said = [answer for answer in answers if answer is not None]
        if not said:
            raise Unreachable("no warden answers")
        return said, len(said) == len(answers)

    @staticmethod
    async def _of(warden: Handle, method: str, what: tuple[Any, ...], seconds: float) -> Any:
        """A warden's answer; None where none comes."""
        try:
            return await asyncio.wait_for(ask(getattr(warden, method), *what), seconds)
        except (PeerGone, Unreachable, TimeoutError) as error:
            _LOG.warning("a warden does not answer to %s: %r", method, error)
            return None
