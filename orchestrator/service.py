"""The service: what drivers, the CLI and the supervisor may ask of the orchestrator, as plain data in and out.

The Ray actor and the local bus both hand their calls to this one object. Every call may be made again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from interlock.orchestrator.admission import Submission
from interlock.orchestrator.engine import Engine
from interlock.orchestrator.erasure import Erasure
from interlock.orchestrator.ledger.folds import run_record, used_in_all
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.shown import ItemShown
from interlock.orchestrator.letters import DEAD
from interlock.orchestrator.limits import meters_to_wire
from interlock.orchestrator.posts import Post
from interlock.orchestrator.state import TaskState
from interlock.orchestrator.watches import Watches
from interlock.schemas import entries as e
from interlock.schemas.errors import (
    BadDeclaration,
    Erased,
    LetterOver,
    OtherApp,
    TooManyReplicas,
    UnknownAgent,
    UnknownItem,
    UnknownLetter,
    UnknownTask,
    UnknownTaskType,
)
from interlock.schemas.ports import stall_to_wire
from interlock.schemas.record import State
from interlock.schemas.sizes import PAGE_AT_MOST
from interlock.schemas.specs import OWN_POOLS, RUNNERS, AppSpec
from interlock.schemas.stops import Selection
from interlock.schemas.undo import is_undoing

Wire = dict[str, Any]

SEAL_SECONDS = 2.0


class Service:
    """One engine's calls. `reads` answers from what is durable, `keeper` signs it."""

    def __init__(self, engine: Engine, reads: Reads, keeper: Keeper | None = None) -> None:
        self._engine, self._reads, self._keeper = engine, reads, keeper
        self._watches, self._erasure = Watches(engine, self._past), Erasure(engine, reads)

    # --- tasks -----------------------------------------------------------------------------------------------------------------

    async def submit(self, submissions: Sequence[Submission]) -> list[Wire | None]:
        """Accept tasks, durably; per submission null, or the wire error of its refusal."""
        refused = await self._engine.admission.submit(submissions)
        return [error.to_wire() if error is not None else None for error in refused]

    async def send(self, task: str, id: str, contract: str, version: str, data: bytes, by: str) -> None:
        """Send a message into a running task, durably; the same `id` again is the same message. Raises `Refused` errors."""
        await self._engine.posts.send(Post(task, id, contract, version, data, by))

    async def outcomes(self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float) -> dict[str, Wire] | None:
        """The ends of tasks that a driver waits for; see `orchestrator/watches.py`."""
        return await self._watches.outcomes(driver, fresh, got, first, seconds)

    def _past(self, task: str) -> e.TaskEnded | None:
        """The end of a task that is not live; none where it is not known."""
        facts = (entry.open() for entry in reversed(self._reads.entries(task)))
        return next((fact for fact in facts if isinstance(fact, e.TaskEnded)), None)

    async def entries(self, task: str, after: int, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
        """A task's entries with a number above `after` and whether it has ended; waits up to `seconds` for the first new one."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := self._reads.entries(task, after)) and self._engine.is_live(task):
                    await self._engine.changed(task)
        except TimeoutError:
            found = self._reads.entries(task, after)
        ended = not self._engine.is_live(task)
        if ended and not found and not self._reads.entries(task):
            raise UnknownTask(task=task)
        return [(one.seq, one.epoch, one.at, one.task, one.kind, one.data, one.hash, one.content, one.gone) for one in found], ended

    async def record(self, task: str) -> Wire:
        """A task's run record as JSON. Raises `UnknownTask`."""
        entries = self._reads.entries(task)
        if not any(entry.kind == e.TaskAccepted.KIND for entry in entries):
            raise UnknownTask(task=task)
        return run_record(entries).model_dump(mode="json")

    async def undos(self, task: str) -> list[Wire]:
        """How what a task registered to be undone stands; see `orchestrator/undo.py`."""
        return self._engine.undos.standing(task)

    async def tasks(self, limit: int, state: str | None) -> list[Wire]:
        """The newest tasks first."""
        return [row._asdict() for row in self._reads.tasks(_page(limit), State(state) if state else None)]

    async def budget(self, task: str) -> Wire:
        """What a task used of what it may: `task`, `type`, `tenant`, `outcome` (null while it lives), and per meter `used`, `reserved`,
        `limit` and `left`, money and time as text. Raises `UnknownTask`."""
        entries = self._reads.entries(task)
        if not any(entry.kind == e.TaskAccepted.KIND for entry in entries):
            raise UnknownTask(task=task)
        record, live = run_record(entries), self._engine.task(task)
        meters = await self._engine.limits.used(live) if live is not None and not live.outcome else used_in_all(entries)
        head = {"task": task, "type": record.task_type, "tenant": record.tenant, "outcome": record.outcome}
        return {**head, "meters": meters_to_wire(meters)}

    async def limits(self) -> list[Wire]:
        """Every limit on a scope that holds now: `scope`, `per`, `window`, and `meters` as of `budget`."""
        rows = await self._engine.budgets.scopes()
        return [{**row, "meters": meters_to_wire(row["meters"])} for row in rows]

    async def change_budget(self, task: str, limits: Wire, by: str, why: str) -> None:
        """Raise or lower a live task's limits, durably; see `orchestrator/limits.py`."""
        await self._engine.limits.change(task, limits, by, why)

    async def limit(self, scope: str, per: str, limits: Wire, by: str, why: str) -> None:
        """Say what a scope may use, durably; see `orchestrator/limits.py`."""
        await self._engine.limits.limit(scope, per, limits, by, why)

    async def erase(self, task: str, by: str, why: str) -> Wire:
        """Destroy what an ended task said; see `orchestrator/erasure.py`. Raises `TaskLive` or `UnknownTask`."""
        return await self._erasure.erase(task, by, why)

    async def prune(self, days: int, by: str, dry_run: bool) -> Wire:
        """Delete what the model calls of tasks said that ended so many days ago. Raises `RetentionTooShort`."""
        return await self._erasure.prune(days, by, dry_run)

    # --- humans ----------------------------------------------------------------------------------------------------------------

    async def inbox(self, open_only: bool, limit: int, after: str, kind: str, task: str) -> list[Wire]:
        """What waits, or all that ever did, whoever waits longest first: those behind the item `after`, of one kind or task where it is
        named. Raises `UnknownItem` where there is no such item."""
        rows = self._reads.inbox(open_only, _page(limit), kind=kind, task=task, after=self._number(after))
        return [row._asdict() for row in rows]

    async def inbox_count(self, open_only: bool, after: str, kind: str) -> int:
        """How many there are of them."""
        return self._reads.inbox_count(open_only, kind=kind, after=self._number(after))

    def _number(self, item: str) -> int:
        """The entry that asked for an item; 0 before the first."""
        row = self._reads.item(item) if item else None
        if row is None and item:
            raise UnknownItem(item=item)
        return row.seq if row is not None else 0

    async def decide(self, item: str, approve: bool, by: str, note: str) -> None:
        """Approve or deny, durably. Raises `UnknownItem` or `AlreadyDecided`."""
        await self._engine.decide(item, approve=approve, by=by, note=note)

    async def dead_letter(self, item: str) -> Wire:
        """A dead letter whole: its row of the inbox, the `message` as it was sent, how its replicas were lost. Raises `UnknownLetter`."""
        row = self._letter(item)
        facts = [entry.open() for entry in self._reads.entries(row.task)]
        sent = next(fact for fact in facts if isinstance(fact, e.MessageSent) and fact.dispatch == row.dispatch)
        losses = [
            fact.why
            for fact in facts
            if (isinstance(fact, e.DeadLettered) or (isinstance(fact, e.DispatchAttempted) and fact.lost)) and fact.dispatch == row.dispatch
        ]
        if isinstance(sent.envelope, e.Gone):
            raise Erased(task=row.task)
        return {**row._asdict(), "message": sent.envelope, "losses": losses}

    async def decide_letter(self, item: str, retry: bool, by: str, note: str) -> None:
        """Hand a dead letter out again, or drop it; durably. Raises `UnknownLetter`, `LetterOver` or `AlreadyDecided`."""
        row = self._letter(item)
        if not self._engine.is_live(row.task):
            task = self._reads.task(row.task)
            raise LetterOver(item=item, why=f"{row.task} has ended as {task.outcome if task is not None else 'another'}")
        await self._engine.decide(item, approve=retry, by=by, note=note)

    def _letter(self, item: str) -> ItemShown:
        row = self._reads.item(item)
        if row is None or row.kind != DEAD:
            raise UnknownLetter(item=item)
        return row

    # --- what is deployed --------------------------------------------------------------------------------------------------------

    async def deploy(self, app: Wire, by: str) -> list[str]:
        """Take an app's declarations; its contracts are registered before. Raises `UnknownContract` where one is not. Names the agents
        that nobody declares any more: their pools shall be emptied."""
        await self._engine.deploy(AppSpec.from_wire(app), by)
        return self._engine.router.vanished

    async def check_deploy(self, app: Wire) -> None:
        """Raises `OtherApp` where another app is deployed: a bus has the code of one, and nobody could work for the other any more."""
        spec = AppSpec.from_wire(app)
        if others := self._engine.router.others(spec):
            raise OtherApp(app=spec.name, running=", ".join(others), formerly=", ".join(f'"{name}"' for name in others))

    async def admit(self, contract: str, version: str, schema: Wire, by: str, revision: int) -> bool:
        """From the registry: record a version that it has proved against `revision`; false where that is not the last one."""
        return await self._engine.admit(contract, version, schema, by, revision)

    async def contracts_since(self, revision: int) -> list[tuple[str, str, Wire]]:
        """For the registry: what was registered after `revision`, in order."""
        return self._engine.registered[revision:]

    async def contracts(self) -> list[Wire]:
        return [{"contract": ref.name, "version": ref.version} for ref in self._engine.catalog.known()]

    async def contract(self, contract: str, version: str) -> Wire:
        """One version of a contract, the highest where none is named. Raises `UnknownContract`."""
        catalog = self._engine.catalog
        version = version or catalog.latest(contract)
        return {"contract": contract, "version": version, "schema": catalog.get(contract, version)}

    async def verify(self) -> int:
        """How many entries the ledger has, all intact. Raises `LedgerDamaged`."""
        return await asyncio.to_thread(self._reads.verify)

    async def seal(self) -> None:
        """Before the bus goes: a last checkpoint, so that no entry is left that nothing vouches for."""
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.seal, SEAL_SECONDS)

    async def loads(self) -> dict[str, tuple[int, int, float, int]]:
        """What each pool has to do, for the supervisor; see `orchestrator/demand.py`."""
        return self._engine.demand.loads()

    async def check_scale(self, agent: str, replicas: int | None) -> None:
        """Raises `UnknownAgent` or `TooManyReplicas` where an agent's pool may not have this size (`None`: as its load asks). Others have
        no bound."""
        pools = self._engine.router.pools
        if agent in OWN_POOLS:
            return  # the supervisor knows which of them there are
        if agent not in pools:
            raise UnknownAgent(agent=agent, known=", ".join(sorted(pools)) or "none")
        bound = pools[agent].agent.replicas[1]
        if replicas is not None and replicas > bound:
            raise TooManyReplicas(agent=agent, bound=bound, asked=replicas)

    async def check_stop(self, scope: str, name: str) -> None:
        """Raises `UnknownAgent` or `UnknownTaskType` where nobody that could be stopped is called so."""
        router = self._engine.router
        if scope not in ("agent", "type") or router.knows(scope, name) or self._engine.stops.is_closed(Selection(scope, name)):
            return
        if scope == "agent":
            raise UnknownAgent(agent=name, known=", ".join(sorted(router.pools)) or "none")
        raise UnknownTaskType(task_type=name, known=", ".join(router.types) or "none")

    async def status(self) -> Wire:
        """Counts of what is live now, whether the ledger can be written, and how far it is signed."""
        engine = self._engine
        return {
            "epoch": engine.store.epoch,
            "ledger": stall_to_wire(engine.store.health()),
            "live_tasks": len(engine.tasks) + len(engine.parking),
            "parked_tasks": len(engine.parking),
            "undoing_tasks": sum(map(is_undoing, (*engine.tasks, *engine.parking))),
            "waiting_tasks": sum(1 for task in engine.tasks.values() if task.open_items) + engine.parking.waiting,
            "dead_letters": _dead_letters(engine.tasks.values()) + engine.parking.dead,
            "suspects": len(engine.suspects),
            "breakers": engine.effects.breakers.shown() + engine.calls.breakers.shown(),
            "live_dispatches": len(engine.dispatches.live),
            "queues": {name: len(pool.queue) for name, pool in engine.router.pools.items()} | {RUNNERS: engine.workflows.waiting},
            "exclusive": [name for name, pool in engine.router.pools.items() if pool.agent.exclusive],
            "bounds": {"live": engine.router.live, "queues": {name: pool.agent.queue for name, pool in engine.router.pools.items()}},
            "checkpoints": self._keeper.status() if self._keeper is not None else None,
            "peers": [{"name": channel.name, "pool": channel.pool, "load": channel.load} for channel in engine.peers.channels.values()],
        }


def _page(limit: int) -> int:
    """A limit that one answer may have. Raises `BadDeclaration`."""
    if not 1 <= limit <= PAGE_AT_MOST:
        problem = f"one answer has 1 to {PAGE_AT_MOST:,} rows"
        raise BadDeclaration(what=f"limit {str(limit)[:40]}", problem=problem, remedy="Ask for the rest page by page.")
    return limit


def _dead_letters(tasks: Iterable[TaskState]) -> int:
    return sum(1 for task in tasks for item in task.open_items if item.kind == DEAD)
