"""`Bus`: a driver's handle on a bus, for plain scripts. It runs an `AsyncBus` on an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from interlock.aio import AsyncBus
from interlock.app import App, Workflow
from interlock.backend import Wire
from interlock.schemas.budget import Budget
from interlock.schemas.bus_entries import RETENTION_DAYS
from interlock.schemas.entries import Entry
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.message import Message
from interlock.schemas.record import Outcome, RunRecord
from interlock.schemas.turns import Priority
from interlock.settings import ModelSettings
from interlock.task import AsyncTask, Event

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
T = TypeVar("T")


class Portal:
    """An event loop in a thread, and a way to run coroutines there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="interlock-driver", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; an interrupt here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        async def finish() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.run(finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Task(Generic[Res]):
    """A submitted task. `id` names it for ever."""

    def __init__(self, task: AsyncTask[Res], portal: Portal) -> None:
        self._task, self._portal = task, portal

    @property
    def id(self) -> str:
        return self._task.id

    def result(self, timeout: float | None = None) -> Res:
        """The task's result, waiting up to `timeout` seconds (then `TimeoutError`; the task goes on). Raises `TaskFailed` with `.outcome`,
        `.reason` and `.record` where the outcome is not `success`."""
        return self._portal.run(_within(self._task.result(), timeout))

    def outcome(self, timeout: float | None = None) -> Outcome:
        """How the task ended, waiting up to `timeout` seconds."""
        return self._portal.run(_within(self._task.outcome(), timeout))

    def events(self) -> Iterator[Event]:
        """What happens to the task, from its beginning, until it has ended."""
        events = self._task.events()
        while True:
            try:
                yield self._portal.run(_next(events.__anext__))
            except StopAsyncIteration:
                return

    def entries(self) -> list[Entry]:
        """What was recorded of the task so far, in order. Raises `UnknownTask`."""
        return self._portal.run(self._task.entries())

    def record(self) -> RunRecord:
        """What the task did and cost so far."""
        return self._portal.run(self._task.record())

    def used(self) -> dict[str, tuple[Any, Any, Any]]:
        """Per meter of a live task: used, reserved, limit (None: without)."""
        return self._portal.run(self._task.used())

    def budget(self) -> dict[str, Any]:
        """What the task used of what it may; see `AsyncTask.budget`."""
        return self._portal.run(self._task.budget())

    def change_budget(self, limits: Mapping[str, Any], why: str, *, by: str | None = None) -> None:
        """Raise or lower limits of the live task, as in `{"usd": "1.00"}`; see `AsyncTask.change_budget`."""
        self._portal.run(self._task.change_budget(limits, why, by=by))

    def send(self, message: Message, *, id: str | None = None, by: str | None = None) -> str:
        """Send a message into the running task, for its workflow to receive; see `AsyncTask.send`. Durable on return."""
        return self._portal.run(self._task.send(message, id=id, by=by))

    def send_json(
        self, contract: str, message: bytes | Mapping[str, Any], *, version: str = "", id: str | None = None, by: str | None = None
    ) -> str:
        """The same for a driver that has no classes; without a `version` it is the one that the workflow declares."""
        return self._portal.run(self._task.send_json(contract, message, version=version, id=id, by=by))

    def kill(self, why: str, *, by: str | None = None, undo: bool = True) -> dict[str, Any]:
        """Stop the task everywhere and return the receipt, with evidence of what was stopped; see `AsyncTask.kill`."""
        return self._portal.run(self._task.kill(why, by=by, undo=undo))

    def undos(self) -> list[dict[str, Any]]:
        """What the workflow registered to be undone and how that stands; see `AsyncTask.undos`."""
        return self._portal.run(self._task.undos())

    def erase(self, why: str, *, by: str | None = None) -> dict[str, Any]:
        """Destroy what the task said, for good; as of `AsyncTask.erase`."""
        return self._portal.run(self._task.erase(why, by=by))


class Contracts:
    """The bus's contracts, as `bus.contracts`."""

    def __init__(self, bus: AsyncBus, portal: Portal) -> None:
        self._contracts, self._portal = bus.contracts, portal

    def register(self, contract: type[Message]) -> bool:
        """Admit a contract version; false where exactly this one is known. Raises what the registry refuses it with."""
        return self._portal.run(self._contracts.register(contract))

    def register_schema(self, name: str, version: str, schema: Mapping[str, Any]) -> bool:
        """The same for a JSON Schema that no class stands for."""
        return self._portal.run(self._contracts.register_schema(name, version, schema))

    def list(self) -> list[Wire]:
        """Every registered version: `contract`, `version`."""
        return self._portal.run(self._contracts.list())

    def get(self, name: str, version: str = "") -> Wire:
        """One registered version, the highest where none is named: `contract`, `version`, `schema`. Raises `UnknownContract`."""
        return self._portal.run(self._contracts.get(name, version))


class Inbox:
    """What waits for a human, as `bus.inbox`."""

    def __init__(self, bus: AsyncBus, portal: Portal) -> None:
        self._inbox, self._portal = bus.inbox, portal

    def list(self, *, open_only: bool = True, limit: int = 100, after: str = "", task: str = "") -> list[Wire]:
        """The items that wait, a page of them; see `AsyncInbox.list`."""
        return self._portal.run(self._inbox.list(open_only=open_only, limit=limit, after=after, task=task))

    def count(self, *, open_only: bool = True, after: str = "") -> int:
        """How many there are, or how many come after an item."""
        return self._portal.run(self._inbox.count(open_only=open_only, after=after))

    def approve(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Say yes to one act or question. Durable on return."""
        self._portal.run(self._inbox.approve(item, note, by=by))

    def deny(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Say no. A denied act ends its task as `rejected`; a question's workflow hears the no."""
        self._portal.run(self._inbox.deny(item, note, by=by))


class Dead:
    """Dead letters, as `bus.dead`; see `AsyncDead`."""

    def __init__(self, bus: AsyncBus, portal: Portal) -> None:
        self._dead, self._portal = bus.dead, portal

    def list(self, *, open_only: bool = True, limit: int = 100, after: str = "") -> list[Wire]:
        """Those that wait for a decision, or all, a page of them; see `AsyncDead.list`."""
        return self._portal.run(self._dead.list(open_only=open_only, limit=limit, after=after))

    def count(self, *, open_only: bool = True, after: str = "") -> int:
        """How many there are, or how many come after one."""
        return self._portal.run(self._dead.count(open_only=open_only, after=after))

    def show(self, item: str) -> Wire:
        """One of them whole, with its message and why each replica was lost. Raises `UnknownLetter`."""
        return self._portal.run(self._dead.show(item))

    def retry(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Hand it out again. Raises `LetterOver` where its task has ended. Durable on return."""
        self._portal.run(self._dead.retry(item, note, by=by))

    def drop(self, item: str, note: str = "", *, by: str | None = None) -> None:
        """Give it up: its workflow hears that the ask has failed. Raises `LetterOver` where its task has ended. Durable on return."""
        self._portal.run(self._dead.drop(item, note, by=by))


class Bus:
    """A handle on a running bus: `with Bus.connect() as bus: ...`, `Bus.start(app)` for a local Ray, `LocalBus(app)` without Ray."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, AsyncBus]]) -> None:
        self._portal = Portal()
        try:
            self._bus = self._portal.run(make())
        except BaseException:
            self._portal.close()
            raise
        self.contracts, self.inbox = Contracts(self._bus, self._portal), Inbox(self._bus, self._portal)
        self.dead = Dead(self._bus, self._portal)

    @classmethod
    def connect(cls, address: str | None = None, *, name: str | None = None) -> "Bus":
        """A handle on the bus called `name` on a Ray cluster (default: the one that `interlock up` started here). Raises `NotRunning`."""
        from interlock.cluster.driver import connect  # Ray is loaded only where it is used

        return Bus(lambda: connect(address, name=name))

    @classmethod
    def start(cls, app: App, *, model: ModelSettings | None = None, folder: Path | None = None, name: str | None = None) -> "Bus":
        """A bus for `app` on a Ray of its own on this machine, for as long as the handle is open.

        `model`: where the models are (default: the environment); `folder` keeps the ledger (default: a new one below `.interlock/runs`).
        """
        from interlock.cluster.driver import start

        return Bus(lambda: start(app, model=model, folder=folder, name=name))

    def submit(
        self,
        workflow: Workflow[Req, Res],
        request: Req,
        *,
        id: str | None = None,
        budget: Budget | None = None,
        tenant: str = DEFAULT_TENANT,
        priority: Priority | None = None,
    ) -> Task[Res]:
        """Submit a task; accepted and durable on return. The same `id` again is the same task. See `AsyncBus.submit`."""
        submitting = self._bus.submit(workflow, request, id=id, budget=budget, tenant=tenant, priority=priority)
        return Task(self._portal.run(submitting), self._portal)

    def submit_json(
        self,
        task_type: str,
        request: bytes | Mapping[str, Any],
        *,
        id: str | None = None,
        limits: Mapping[str, Any] | None = None,
        tenant: str = DEFAULT_TENANT,
        priority: Priority | None = None,
    ) -> Task[Any]:
        """The same for a driver that has no classes: the task type's name, and the request as JSON."""
        submitting = self._bus.submit_json(task_type, request, id=id, limits=limits, tenant=tenant, priority=priority)
        return Task(self._portal.run(submitting), self._portal)

    def task(self, id: str) -> Task[Any]:
        """Attach again to a task by its id."""
        return Task(self._bus.task(id), self._portal)

    def tasks(self, *, limit: int = 100, state: str | None = None) -> list[Wire]:
        """The newest tasks first."""
        return self._portal.run(self._bus.tasks(limit=limit, state=state))

    def limits(self) -> list[Wire]:
        """Every limit that tasks share; see `AsyncBus.limits`."""
        return self._portal.run(self._bus.limits())

    def limit(self, scope: str, limits: Mapping[str, Any], why: str, *, per: str = "", by: str | None = None) -> None:
        """Say what the tasks of a scope may use together; see `AsyncBus.limit`."""
        self._portal.run(self._bus.limit(scope, limits, why, per=per, by=by))

    def scale(self, agent: str, replicas: int | Literal["auto"]) -> None:
        """Pin how many replicas an agent has, or (`"auto"`) let it follow its load again, within its declared bounds. Raises
        `UnknownAgent` or `TooManyReplicas`."""
        self._portal.run(self._bus.scale(agent, replicas))

    def kill(
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
        """Stop all that one of these names; the receipt. See `AsyncBus.kill`."""
        return self._portal.run(
            self._bus.kill(agent=agent, replica=replica, type=type, tenant=tenant, everything=everything, why=why, by=by, undo=undo)
        )

    def resume(
        self, *, agent: str | None = None, type: str | None = None, tenant: str | None = None, why: str, by: str | None = None
    ) -> Wire:
        """Open what `kill` has closed; see `AsyncBus.resume`."""
        return self._portal.run(self._bus.resume(agent=agent, type=type, tenant=tenant, why=why, by=by))

    def drill(self, *, tasks: int = 20, by: str | None = None) -> Wire:
        """Try the switch on synthetic tasks; the receipt. See `AsyncBus.drill`."""
        return self._portal.run(self._bus.drill(tasks=tasks, by=by))

    def status(self) -> Wire:
        """What is live now: tasks, pools, queues."""
        return self._portal.run(self._bus.status())

    def prune(self, *, days: int = RETENTION_DAYS, dry_run: bool = False, by: str | None = None) -> Wire:
        """Delete what model calls said of tasks that ended more than `days` ago; as of `AsyncBus.prune`."""
        return self._portal.run(self._bus.prune(days=days, dry_run=dry_run, by=by))

    def verify(self) -> int:
        """How many entries the ledger has, all intact. Raises `LedgerDamaged`."""
        return self._portal.run(self._bus.verify())

    def close(self) -> None:
        """Let go of the bus. A bus of `start` or `LocalBus` stops; one that was connected to goes on."""
        try:
            self._portal.run(self._bus.close())
        finally:
            self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _within(coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
    return await asyncio.wait_for(coroutine, timeout)


async def _next(step: Callable[[], Awaitable[T]]) -> T:
    return await step()
