"""`AsyncBus`: a driver's handle on a bus, for code that runs on an event loop. `Bus` is the same for code that does not."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from interlock.app import App, Workflow
from interlock.backend import Backend, Wire
from interlock.gather import Gather
from interlock.orchestrator.admission import Submission
from interlock.orchestrator.letters import DEAD
from interlock.schemas.budget import Budget, named_limits
from interlock.schemas.bus_entries import RETENTION_DAYS
from interlock.schemas.canonical import encode
from interlock.schemas.drill import DRILL
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.ids import DEFAULT_TENANT, fresh
from interlock.schemas.message import Message, contract_of
from interlock.schemas.stops import RESUME, STOP, Selection
from interlock.schemas.turns import Priority
from interlock.schemas.words import clean
from interlock.settings import ModelSettings
from interlock.task import AsyncTask, own_id, principal

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


def selected(**named: str | bool | None) -> Selection:
    """The one selection that is named. Raises `BadDeclaration`."""
    given = [Selection(scope, "" if name is True else clean(str(name))) for scope, name in named.items() if name is not None]
    if len(given) != 1 or not (given[0].name or given[0].scope == "everything"):
        remedy = "Name exactly one of " + ", ".join(f"{scope}=" for scope in named) + "."
        raise BadDeclaration(what="what to stop", problem=f"{len(given)} of its names are given", remedy=remedy)
    return given[0]


class AsyncContracts:
    """The bus's contracts, as `bus.contracts`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def register(self, contract: type[Message]) -> bool:
        """Admit a contract version; false where exactly this one is known. Raises what the registry refuses it with."""
        name, version = contract_of(contract)
        return await self._backend.register(name, version, contract.json_schema(), principal())

    async def register_schema(self, name: str, version: str, schema: Mapping[str, Any]) -> bool:
        """The same for a JSON Schema that no class stands for."""
        return await self._backend.register(name, version, dict(schema), principal())

    async def list(self) -> list[Wire]:
        """Every registered version: `contract`, `version`."""
        return await self._backend.contracts()

    async def get(self, name: str, version: str = "") -> Wire:
        """One registered version, the highest where none is named: `contract`, `version`, `schema`. Raises `UnknownContract`."""
        return await self._backend.contract(name, version)


class AsyncInbox:
    """What waits for a human, as `bus.inbox`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list(self, *, open_only: bool = True, limit: int = 100, after: str = "", task: str = "") -> list[Wire]:
        """The items, whoever waits longest first: `item`, `task`, `kind`, `to`, `text`, `details`, `asked_at`, `expires`, and once decided
        `decision`, `by`, `note`. The next page is what comes `after` an item; `task` has those of one task only."""
        return await self._backend.inbox(open_only, limit, after, "", task)

    async def count(self, *, open_only: bool = True, after: str = "") -> int:
        """How many there are, or how many come after an item."""
        return await self._backend.inbox_count(open_only, after, "")

    async def approve(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Say yes to one act or question. Durable on return."""
        await self._backend.decide(item, True, clean(by or principal()), clean(note))

    async def deny(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Say no. A denied act ends its task as `rejected`; a question's workflow hears the no."""
        await self._backend.decide(item, False, clean(by or principal()), clean(note))


class AsyncDead:
    """Dead letters, as `bus.dead`: messages on which replica after replica has ended. Their tasks wait until somebody decides."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list(self, *, open_only: bool = True, limit: int = 100, after: str = "") -> list[Wire]:
        """Those that wait, or all; items and pages as of `AsyncInbox.list`."""
        return await self._backend.inbox(open_only, limit, after, DEAD, "")

    async def count(self, *, open_only: bool = True, after: str = "") -> int:
        """How many there are, or how many come after one."""
        return await self._backend.inbox_count(open_only, after, DEAD)

    async def show(self, item: str) -> Wire:
        """One of them whole: also the `message` as it was sent, and why each replica was lost (`losses`). Raises `UnknownLetter`."""
        return await self._backend.dead_letter(item)

    async def retry(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Hand it out again, with what was recorded of it. Raises `LetterOver` where its task has ended. Durable on return."""
        await self._backend.decide_letter(item, True, clean(by or principal()), clean(note))

    async def drop(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Give it up: its workflow hears that the ask has failed. Raises `LetterOver` where its task has ended. Durable on return."""
        await self._backend.decide_letter(item, False, clean(by or principal()), clean(note))


class AsyncBus:
    """A handle on a running bus, for code on an event loop. Make one with `connect`, `start` or `local`; use it as a context manager."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._gather = Gather(backend)
        self.contracts, self.inbox, self.dead = AsyncContracts(backend), AsyncInbox(backend), AsyncDead(backend)

    @classmethod
    async def connect(cls, address: str | None = None, *, name: str | None = None) -> "AsyncBus":
        """A handle on the bus called `name` on a Ray cluster (default: the one that `interlock up` started here). Raises `NotRunning`."""
        from interlock.cluster.driver import connect  # Ray is loaded only where it is used

        return await connect(address, name=name)

    @classmethod
    async def start(
        cls, app: App, *, model: ModelSettings | None = None, folder: Path | None = None, name: str | None = None
    ) -> "AsyncBus":
        """A bus for `app` on a Ray of its own on this machine, for as long as the handle is open; arguments as of `Bus.start`."""
        from interlock.cluster.driver import start

        return await start(app, model=model, folder=folder, name=name)

    @classmethod
    async def local(cls, app: App, *, model: ModelSettings | None = None, folder: Path | None = None) -> "AsyncBus":
        """A bus for `app` in this process, without Ray; arguments as of `LocalBus`."""
        from interlock.local import start

        return await start(app, model=model, folder=folder)

    async def submit(
        self,
        workflow: Workflow[Req, Res],
        request: Req,
        *,
        id: str | None = None,
        budget: Budget | None = None,
        tenant: str = DEFAULT_TENANT,
        priority: Priority | None = None,
    ) -> AsyncTask[Res]:
        """Submit a task; accepted and durable on return. The same `id` (lower case, digits, hyphens) again is the same task.

        `budget` may only lower the workflow's; `tenant` is on whose account it runs; `priority` goes before the workflow's. Raises
        `Refused` errors: nothing was started then. One that is `TryAgain` says after how many seconds (`retry_after`).
        """
        limits = named_limits(budget) if budget is not None else {}
        task = own_id("tsk", id)
        _, version = contract_of(type(request))
        wire_limits = {meter: str(amount) for meter, amount in limits.items()}
        asked = Submission(task, workflow.name, version, request.encoded(), wire_limits, principal(), tenant, priority or "")
        await self._gather.submit(asked)
        return AsyncTask(task, self._backend, self._gather, workflow.result)

    async def submit_json(
        self,
        task_type: str,
        request: bytes | Mapping[str, Any],
        *,
        id: str | None = None,
        limits: Mapping[str, Any] | None = None,
        tenant: str = DEFAULT_TENANT,
        priority: Priority | None = None,
    ) -> AsyncTask[Any]:
        """The same for a driver that has no classes: the task type's name, and the request as JSON."""
        data = request if isinstance(request, bytes) else encode(dict(request))
        task = own_id("tsk", id)
        await self._gather.submit(Submission(task, task_type, "", data, dict(limits or {}), principal(), tenant, priority or ""))
        return AsyncTask(task, self._backend, self._gather, None)

    def task(self, id: str) -> AsyncTask[Any]:
        """Attach again to a task by its id."""
        return AsyncTask(own_id("tsk", id), self._backend, self._gather, None)

    async def tasks(self, *, limit: int = 100, state: str | None = None) -> list[Wire]:
        """The newest tasks first: `task`, `type`, `tenant`, `state`, `outcome`, `reason`, `accepted_at`, `ended_at`."""
        return await self._backend.tasks(limit, state)

    async def limits(self) -> list[Wire]:
        """Every limit that tasks share and that holds now: `scope`, `per`, `window`, and `meters` as of `AsyncTask.budget`."""
        return await self._backend.limits()

    async def limit(self, scope: str, limits: Mapping[str, Any], why: str, *, per: str = "", by: str | None = None) -> None:
        """Say what the tasks of a scope may use together, as in `bus.limit("tenant:acme", {"usd": "100"}, "paid for more", per="day")`.

        It goes before what the app declares with `App.limit` (which has the words), and outlives its deployments; None lifts a limit. Who
        and why is recorded; durable on return.
        """
        wire = {meter: None if amount is None else str(amount) for meter, amount in limits.items()}
        await self._backend.limit(scope, per, wire, clean(by or principal()), clean(why))

    async def scale(self, agent: str, replicas: int | Literal["auto"]) -> None:
        """Pin how many replicas an agent has, or (`"auto"`) let it follow its load again, within its declared bounds. Raises
        `UnknownAgent` or `TooManyReplicas`."""
        await self._backend.scale(agent, None if replicas == "auto" else replicas)

    async def kill(
        self,
        *,
        agent: str | None = None,
        replica: str | None = None,
        type: str | None = None,
        tenant: str | None = None,
        everything: bool = False,
        why: str,
        by: str | None = None,
        undo: bool = True,
    ) -> Wire:
        """Stop more than one task; one of these is named. Returns the receipt, within 60 s at the very most.

        `type`, `tenant` and `everything` kill every live task that they name, and no such task is let in until `resume`. An `agent`
        loses all its replicas, what it works on has failed (its workflows hear `Closed`), and it gets nothing until `resume`. A `replica`
        is replaced, and its work goes on elsewhere. What the killed tasks did is undone as of `AsyncTask.kill`; what is being undone is
        stopped like all else. Raises `UnknownAgent`, `UnknownReplica`, `UnknownTaskType`.
        """
        selection = selected(agent=agent, replica=replica, type=type, tenant=tenant, everything=everything or None)
        return await self._backend.stop(fresh("stp"), STOP, selection, clean(by or principal()), clean(why), undo)

    async def resume(
        self, *, agent: str | None = None, type: str | None = None, tenant: str | None = None, why: str, by: str | None = None
    ) -> Wire:
        """Open what `kill` has closed: one of these, or all that is closed where none is named. What was killed stays killed."""
        named = (agent, type, tenant) != (None, None, None)
        selection = selected(agent=agent, type=type, tenant=tenant, everything=None if named else True)
        return await self._backend.stop(fresh("stp"), RESUME, selection, clean(by or principal()), clean(why), True)

    async def drill(self, *, tasks: int = 20, by: str | None = None) -> Wire:
        """Try the switch on so many synthetic tasks of a type of its own (`interlock.drill`), and open that again; the receipt.

        Real tasks are not touched, though every process is asked and looked at as in earnest. Raises `Closed` where everything is stopped.
        """
        why = f"a drill with {tasks} synthetic tasks"
        if any(stop["name"] == DRILL for stop in (await self.status())["stops"]):  # whoever ran the last one died in it
            await self.resume(type=DRILL, why=why, by=by)
        submits = await asyncio.gather(*(self.submit_json(DRILL, {}) for _ in range(tasks)), return_exceptions=True)
        try:
            receipt = await self.kill(type=DRILL, why=why, by=by)  # also those that came in before one was refused
            for refused in submits:
                if isinstance(refused, BaseException):
                    raise refused
            return receipt
        finally:
            await self.resume(type=DRILL, why=why, by=by)

    async def status(self) -> Wire:
        """What is live now: tasks, pools, queues."""
        return await self._backend.status()

    async def prune(self, *, days: int = RETENTION_DAYS, dry_run: bool = False, by: str | None = None) -> Wire:
        """Delete what model calls said of tasks that ended more than `days` ago, 30 at least; with `dry_run` only count it.

        Durable on return. Returns `tasks`, `pieces` and `bytes`, and as of `Task.erase` whether there are `traces`; in a PostgreSQL they go
        when their room is `reused`. What tasks said otherwise stays, and so does the record of calls: when,
        which model, at what cost. Raises `RetentionTooShort`.
        """
        return await self._backend.prune(days, clean(by or principal()), dry_run)

    async def verify(self) -> int:
        """How many entries the ledger has, all intact. Raises `LedgerDamaged`."""
        return await self._backend.verify()

    async def close(self) -> None:
        """Let go of the bus. A bus of `start` or `LocalBus` stops; one that was connected to goes on."""
        await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
