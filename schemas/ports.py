"""Ports: what the engine and the workers need of the world, with an in-memory twin for each."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.entries import Entry, Fact
from interlock.schemas.errors import InterlockError
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder
from interlock.schemas.times import rfc3339

Failed = Callable[[BaseException], None]
"""Hears that something has stopped itself, and why."""

Told = Callable[[str, str, int, int, str], None]
"""Hears of a task's end once it is durable: task, type, when it was accepted and when it ended (microseconds), outcome."""


Lost = Callable[[str, str], None]
"""Hears of a peer whose process has ended or does not answer, and why: whatever is left of it shall be ended. May be told twice."""


class Inquest(NamedTuple):
    """What is known of a process that has ended or hangs: the tasks that it was working on just then, each with the seconds since it began,
    and why it was ended by whoever did that; empty where nobody is known to have."""

    at_work: dict[str, float]
    why: str = ""


Inquire = Callable[[str, Sequence[str]], Awaitable[Inquest]]
"""Looks what a process was doing, by its name; of the tasks it tells only those that are asked about."""


async def nobody_knows(name: str, tasks: Sequence[str]) -> Inquest:
    """An inquest where no note is kept."""
    return Inquest({})


class Clock(Protocol):
    """Wall-clock time. Durations and waiting are the event loop's (`asyncio`), which tests make virtual."""

    def now(self) -> int:
        """Microseconds since the epoch, UTC."""


class Stall(NamedTuple):
    """A ledger, or the supervisor's journal, that cannot be written, or not in time: `since` when (microseconds), and `why`. It goes on by
    itself."""

    since: int
    why: str


def stall_to_wire(stalled: Stall | None, state: str = "stalled") -> dict[str, str]:
    """As a status shows it; `state` where it is less than a stall."""
    if stalled is None:
        return {"state": "ok", "since": "", "problem": ""}
    return {"state": state, "since": rfc3339(stalled.since), "problem": stalled.why}


class Deed(Protocol):
    """A write as it is remembered. `state`: `done` (the entry before number `seq` has its result, or an earlier one of `task`), `unknown`
    (`attempt` of `dispatch`, granted at `holder`, may have done it) or `open`."""

    @property
    def seq(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def effect(self) -> str: ...
    @property
    def dispatch(self) -> str: ...
    @property
    def attempt(self) -> str: ...
    @property
    def holder(self) -> str: ...
    @property
    def state(self) -> str: ...


class Store(Protocol):
    """The ledger as its one writer uses it."""

    epoch: int

    @property
    def pending(self) -> bool:
        """Whether something was appended that is not durable yet."""

    @property
    def stalled(self) -> Stall | None:
        """What keeps what was appended from becoming durable now, though it will; none where all is well."""

    def health(self) -> Stall | None:
        """The same for who asks now and then: what readers have met counts too, and is looked at again."""

    @property
    def traces(self) -> bool:
        """Whether what was erased can still be found in the store's files by who searches them; it passes by itself."""

    def free_room(self) -> bool:
        """See to it that the room of what was pruned is soon used again. Whether what was pruned lies there until it is."""

    def append(self, task: str, fact: Fact, then: Callable[[], None] | None = None) -> int:
        """Put one entry at the end and return its time (microseconds); `then` runs on the event loop, in order, once it is durable."""

    def barrier(self, then: Callable[[], None]) -> None:
        """Run `then` once all that was appended so far is durable: at once if it is already."""

    def entries(self, task: str) -> list[Entry]:
        """A task's entries in order (`""`: those of the bus itself); only durable ones."""

    def live_tasks(self) -> list[str]:
        """Tasks without an outcome, in order of acceptance."""

    def parked(self) -> list[Entry]:
        """The last entries of those live tasks that are parked: each says so."""

    def entries_of(self, tasks: Sequence[str]) -> dict[str, list[Entry]]:
        """The durable entries of many tasks at once, each task's in order."""

    def item_task(self, item: str) -> str:
        """The task of something that was durably asked of a human; empty where there is no such item."""

    def deed(self, name: str) -> Deed | None:
        """What is durably known of a deed under its name."""

    def entry(self, seq: int) -> Entry:
        """The durable entry with this number."""


class Peer(Protocol):
    """The far end of a channel: a replica, a runner or a model gateway."""

    async def exchange(self, request: bytes) -> bytes:
        """Hand over frames, get frames. Raises `PeerGone` once the process behind it has ended."""


class PeerGone(Exception):
    """The process behind a peer has ended; nothing more comes from it."""


class Reservation(NamedTuple):
    """The worst case of one effect. Granted are `base` plus at most `wanted` and at least `least` times `unit`.

    `id` is the effect's (with `#number`): a repeated request gets the first answer. `way`: of a model call its endpoint and model.
    """

    id: str
    task: str
    base: Amounts
    unit: Amounts
    wanted: int = 0
    least: int = 0
    way: tuple[str, str] | None = None


class Grant(NamedTuple):
    """`units` granted, or a wire error (`budget_exceeded`, `fenced`)."""

    id: str
    units: int
    error: InterlockError | None = None


class Budgets(Protocol):
    """The supervisor's meters. Every method is idempotent under its ids and may be called again after a crash."""

    def open(
        self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT
    ) -> Awaitable[None]:
        """A task of a type, on a tenant's account, begins at `accepted` (microseconds), with the orchestrator of that epoch. Raises
        `Fenced` where an order stands against it, `Closed` where one stands against all that it belongs to, `StorePaused` where nothing can
        be kept now; the other methods wait then."""

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        """Hold the worst case of each, all or nothing per reservation; durable on return."""

    async def settle(self, id: str, actual: Amounts) -> None:
        """The effect has ended and used `actual`; what was held is given back."""

    async def forfeit(self, task: str, id: str) -> Amounts:
        """Whoever reserved `id` (and `id/2` and so on) is gone: what they hold counts as used. Returns all that they cost."""

    async def close(self, tasks: list[str], epoch: int) -> None:
        """These tasks have their outcomes, says the orchestrator of that epoch: their meters may be forgotten. Those that a later one has
        opened stay."""

    async def overran(self, endpoint: str, model: str, answered: int, allowed: int) -> None:
        """An endpoint has answered with more tokens than it was allowed; remembered for ever, the first time of each model. Nothing is
        reserved any more for what has a limit that this could pass."""

    async def turn(self, lane: str, id: str, task: str, tokens: int, limits: tuple[int | None, int | None]) -> float:
        """Whether a try of a model call, of at most so many tokens, may go to its lane (a model at an endpoint) now: 0, or the seconds
        after which it shall ask again. `limits`: the requests and tokens a minute that all tasks share there."""

    async def came_to(self, lane: str, id: str, tokens: int) -> None:
        """The tokens of a try that had its turn."""

    async def leave(self, lane: str, id: str) -> None:
        """A try that waits for its turn, or has it, is not made."""

    async def shut(self, lane: str, seconds: float) -> None:
        """An endpoint asks to be left alone for so long."""

    async def called_at(self, task: str, call: str) -> list[str]:
        """The gateways that have reserved for this model call (`effect#number`) of a task, settled or not."""

    async def calls_of(self, task: str) -> list[str]:
        """All model calls that anybody has reserved for, as `effect#number@gateway`, but for those that were never sent."""

    async def close_forgotten(self, epoch: int, kept: Sequence[str]) -> list[str]:
        """Close what orchestrators before this epoch have opened, but for these tasks. Those for which models were called stay open: they
        are returned, for somebody has to see to it that each call is told."""

    async def limited(self, task: str) -> Sequence[str]:
        """The meters of a task that any limit is on: its own, or of a scope that it is in."""

    async def declare(self, limits: Sequence[Sequence[Any]]) -> None:
        """What the deployed app says of scopes, as `(scope, period, limits)`; see `schemas/limits.py`."""

    async def limit(self, scope: str, per: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        """An operator's word about a scope: it goes before the app's. None lifts a limit. Raises `BadDeclaration`."""

    async def change(self, task: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        """An operator's word about an open task's limits; none lifts one. Raises `Fenced` or `BadDeclaration`."""

    async def scopes(self) -> list[dict[str, Any]]:
        """Every limit on a scope that holds now: `scope`, `per`, `window`, and `meters` as of `used`."""

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        """Per meter: used, reserved, limit."""


class TaskOrder(NamedTuple):
    """An order against a task as the engine hears of it. `what`: `kill` or `budget`; `undo`: what it did shall be undone."""

    id: str
    task: str
    what: str
    by: str
    why: str
    undo: bool = True


class Left(NamedTuple):
    """What is left of tasks that were stopped. `half_done`: writes that were granted and of which nobody knows the end (`task`, `effect`,
    `tool`, `label`); `undos`: what is registered to take back what they did, and how it stands (`task`, `undoing`, `n`, `tool`, `of`,
    `state`)."""

    half_done: list[dict[str, Any]]
    undos: list[dict[str, Any]]


class Orders(Protocol):
    """How the supervisor reaches the engine: an order is repeated until it is acknowledged."""

    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        """Fence these tasks and give them their outcomes. Once that is durable: what is left of them."""

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        """Four fifths of a limit are used, of a task or of what a scope may use in a window (`scope/per/window`); may be said again."""

    async def stop_all(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        """The same for all tasks of a stop, and keep it itself: an agent that it names gets nothing more, and what it works on has failed.
        Also of a resume: then it gets work again."""

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        """Copy finished receipts into the ledger."""

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        """Those of these peers in which nothing of the tasks can wait unread, and to which nothing of them will be sent any more. None
        where the engine cannot say so for certain."""


class Processes(Protocol):
    """What the wardens can see and do. A process is named by pid and start time, never by pid alone."""

    async def holders(self, tasks: Sequence[str]) -> list[str]:
        """Incarnations whose process lives and works for one of the tasks, or may do so, by its own note."""

    async def strays(self, tasks: Sequence[str]) -> list[str]:
        """Incarnations with living child processes that may belong to one of them: started since it began there, marked as nobody's."""

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        """End the process trees of these incarnations; per incarnation `killed`, `gone` or `unverified`."""

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        """End all processes that are marked as these tasks' own: `killed`, `gone` (there were none) or `unverified`."""


class Hosts(Protocol):
    """The peers that work for tasks (replicas, runners, model gateways) as the supervisor reaches them. Calls may hang or fail."""

    def incarnations(self) -> list[str]:
        """All that may work for a task now, those that are leaving included."""

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        """True once nothing of these tasks runs there and nothing of them will be started there any more; false: not yet."""

    async def lost(self, incarnation: str, why: str) -> None:
        """Its process has ended: what else it worked for goes elsewhere, and its pool gets another. May be said twice."""
