"""`Backend` over a cluster: a driver's calls to the orchestrator, the supervisor and the registry."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import ray

from interlock.actors.supervisor.journal import Order
from interlock.actors.supervisor.journals import write_order
from interlock.backend import Wire, check_kill, check_stop
from interlock.clock import SystemClock
from interlock.cluster.calls import Silent, Unreachable, insist
from interlock.cluster.config import ORCHESTRATOR, REGISTRY, SUPERVISOR
from interlock.orchestrator.admission import Submission
from interlock.schemas.errors import (
    InterlockError,
    NotAnswering,
    NotRunning,
    OrderNotKept,
    OrderStands,
    StopStands,
    StoreFailed,
    StorePaused,
)
from interlock.schemas.places import JOURNAL_FILE, Place
from interlock.schemas.ports import PeerGone, Stall, stall_to_wire
from interlock.schemas.stops import Selection
from interlock.settings import noted_ledger

CALL_SECONDS = 30.0
"""How long a call is made again while its actor is being started again."""

KILL_SECONDS, PING_SECONDS = 52.0, 5.0
"""With the check before it within a minute: a kill says within that time what has come of it."""

SUBMIT_SECONDS, VERIFY_SECONDS = 120.0, 3600.0

_LOG = logging.getLogger("interlock.cluster")


class ClusterBackend:
    """The bus called `name` on the cluster that this process is connected to. `stop` ends what was started with it; `home` is the bus's own
    folder where this machine has it: a kill then needs no living supervisor."""

    def __init__(
        self, name: str, address: str, stop: Callable[[], Coroutine[Any, Any, None]] | None = None, home: Path | None = None
    ) -> None:
        self._address, self._stop = address, stop
        self._home = home
        try:
            self._orchestrator = ray.get_actor(ORCHESTRATOR, namespace=name)
            self._supervisor = ray.get_actor(SUPERVISOR, namespace=name)
            self._registry = ray.get_actor(REGISTRY, namespace=name)
        except ValueError:
            raise NotRunning(address=f"{address} under the name {name}") from None

    async def _insist(self, method: Any, *args: Any, seconds: float = CALL_SECONDS) -> Any:
        try:
            return await insist(method, *args, seconds=seconds)
        except Silent:
            raise NotAnswering(address=self._address, seconds=f"{seconds:g}") from None
        except (Unreachable, PeerGone):
            raise NotRunning(address=self._address) from None

    async def _call(self, method: str, *args: Any) -> Any:
        return await self._insist(self._orchestrator.call, method, *args)

    async def submit(self, submissions: Sequence[Submission]) -> list[Wire | None]:
        answers: list[Wire | None] = await self._insist(
            self._orchestrator.submit, [list(one) for one in submissions], seconds=SUBMIT_SECONDS
        )
        return answers

    async def send(self, task: str, id: str, contract: str, version: str, data: bytes, by: str) -> None:
        await self._call("send", task, id, contract, version, data, by)

    async def outcomes(self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float) -> dict[str, Wire] | None:
        ends: dict[str, Wire] | None = await self._insist(self._orchestrator.outcomes, driver, fresh, got, first, seconds)
        return ends

    async def entries(self, task: str, after: int, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
        found: tuple[list[tuple[Any, ...]], bool] = await self._insist(self._orchestrator.entries, task, after, seconds)
        return found

    async def record(self, task: str) -> Wire:
        record: Wire = await self._call("record", task)
        return record

    async def tasks(self, limit: int, state: str | None) -> list[Wire]:
        rows: list[Wire] = await self._call("tasks", limit, state)
        return rows

    async def inbox(self, open_only: bool, limit: int, after: str, kind: str, task: str) -> list[Wire]:
        rows: list[Wire] = await self._call("inbox", open_only, limit, after, kind, task)
        return rows

    async def inbox_count(self, open_only: bool, after: str, kind: str) -> int:
        count: int = await self._call("inbox_count", open_only, after, kind)
        return count

    async def decide(self, item: str, approve: bool, by: str, note: str) -> None:
        await self._call("decide", item, approve, by, note)

    async def dead_letter(self, item: str) -> Wire:
        letter: Wire = await self._call("dead_letter", item)
        return letter

    async def decide_letter(self, item: str, retry: bool, by: str, note: str) -> None:
        await self._call("decide_letter", item, retry, by, note)

    async def budget(self, task: str) -> Wire:
        budget: Wire = await self._call("budget", task)
        return budget

    async def limits(self) -> list[Wire]:
        rows: list[Wire] = await self._call("limits")
        return rows

    async def change_budget(self, task: str, limits: Wire, by: str, why: str) -> None:
        await self._call("change_budget", task, limits, by, why)

    async def limit(self, scope: str, per: str, limits: Wire, by: str, why: str) -> None:
        await self._call("limit", scope, per, limits, by, why)

    async def erase(self, task: str, by: str, why: str) -> Wire:
        erased: Wire = await self._call("erase", task, by, why)
        return erased

    async def prune(self, days: int, by: str, dry_run: bool) -> Wire:
        pruned: Wire = await self._insist(self._orchestrator.call, "prune", days, by, dry_run, seconds=VERIFY_SECONDS)
        return pruned

    async def register(self, contract: str, version: str, schema: Wire, by: str) -> bool:
        new: bool = await self._insist(self._registry.register, contract, version, schema, by)
        return new

    async def contracts(self) -> list[Wire]:
        rows: list[Wire] = await self._call("contracts")
        return rows

    async def contract(self, contract: str, version: str) -> Wire:
        found: Wire = await self._call("contract", contract, version)
        return found

    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> Wire:
        await check_kill(task, self.record)
        order = Order.made(task, "kill", by, why, SystemClock().now(), undo)
        return await self._order(order, task, lambda path: OrderStands(task=task, path=path), self._supervisor.kill, task, by, why, undo)

    async def undos(self, task: str) -> list[Wire]:
        undos: list[Wire] = await self._call("undos", task)
        return undos

    async def check_stop(self, scope: str, name: str) -> None:
        await self._call("check_stop", scope, name)

    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> Wire:
        await check_stop(selection, self.check_stop(*selection))
        order = Order.of_selection(id, what, selection, by, why, SystemClock().now(), undo)

        def stands(path: str) -> StopStands:
            return StopStands(what=what, selection=str(selection), path=path)

        return await self._order(order, str(selection), stands, self._supervisor.stop, id, what, selection, by, why, undo)

    async def _order(self, order: Order, about: str, stands: Callable[[str], InterlockError], method: Any, *args: Any) -> Wire:
        """Have an order carried out; the receipt. Where no supervisor answers, what `stands` says, once it is kept all the same."""
        kept = "" if await self._supervisor_lives() else await self._write_order(order, about)
        try:
            receipt: Wire = await self._insist(method, *args, seconds=KILL_SECONDS)
        except (NotRunning, StoreFailed, StorePaused) as error:
            if kept := kept or await self._write_order(order, about):
                raise stands(kept) from None
            if isinstance(error, StorePaused):
                raise OrderNotKept(task=about, path=error.path, problem=error.problem) from None
            raise
        return receipt

    async def _supervisor_lives(self) -> bool:
        try:
            await insist(self._supervisor.ping, seconds=PING_SECONDS)
        except (Unreachable, PeerGone, StoreFailed, StorePaused):  # the last two: it lives, and cannot open its journal
            return False
        return True

    async def _write_order(self, order: Order, about: str) -> str:
        """Put the order where any supervisor finds it; where that is, nothing where this machine does not have that place."""
        journal = self._journal()
        if self._home is None or journal is None:
            return ""
        kept = await asyncio.to_thread(write_order, journal, order, self._home)
        _LOG.warning("the supervisor does not answer; the order about %s is in %s", about, kept.path)
        return kept.path

    def _journal(self) -> Place | None:
        """The supervisor's journal, where this machine has the way to it."""
        if self._home is None:
            return None
        file = self._home / JOURNAL_FILE
        return noted_ledger(self._home) or (file if file.exists() else None)

    async def used(self, task: str) -> dict[str, tuple[Any, Any, Any]]:
        ((ok, used),) = await self._insist(self._supervisor.budgets, [("used", task)])
        return dict(used) if ok else {}

    async def scale(self, agent: str, replicas: int | None) -> None:
        await self._call("check_scale", agent, replicas)
        await self._insist(self._supervisor.scale, agent, replicas)

    async def status(self) -> Wire:
        status, supervisor = await asyncio.gather(self._call("status"), self._supervisor_status())
        return {**status, **supervisor}

    async def _supervisor_status(self) -> Wire:
        """Who has to wait for a journal's disk answers late or not at all, and that is said too."""
        since = SystemClock().now()
        try:
            status: Wire = await insist(self._supervisor.status, seconds=PING_SECONDS)
        except Silent:
            problem = f"the supervisor has not answered for {PING_SECONDS:g} s: it hangs, or the journal's disk does"
            journal = stall_to_wire(Stall(since, problem), "silent")
            return {"journal": journal, "pools": {}, "keeping": {}, "stops": [], "orders": []}
        except (Unreachable, PeerGone):
            status = await self._insist(self._supervisor.status)
        return status

    async def verify(self) -> int:
        count: int = await self._insist(self._orchestrator.call, "verify", seconds=VERIFY_SECONDS)
        return count

    async def close(self) -> None:
        if self._stop is not None:
            await self._stop()
