"""Entries: everything that happens, as frozen records with a stable `KIND` and JSON fields.

An entry is written once and never changes; fields may only be added, with a default. `Any` fields hold JSON (on the way in
also a `Fragment` of bytes that are JSON already, so that a payload is encoded once). Fields of `CONTENT` and `KEPT` are stored under their
task's key and read back as `Gone` once that is erased.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from interlock.schemas.budget_entries import BudgetChanged as BudgetChanged
from interlock.schemas.budget_entries import BudgetNeared as BudgetNeared
from interlock.schemas.budget_entries import EstimateExceeded as EstimateExceeded
from interlock.schemas.budget_entries import LimitChanged as LimitChanged
from interlock.schemas.budget_entries import LimitNeared as LimitNeared
from interlock.schemas.bus_entries import AppDeployed as AppDeployed
from interlock.schemas.bus_entries import ContentPruned as ContentPruned
from interlock.schemas.bus_entries import ContractRegistered as ContractRegistered
from interlock.schemas.bus_entries import EpochStarted as EpochStarted
from interlock.schemas.bus_entries import TaskErased as TaskErased
from interlock.schemas.canonical import decode
from interlock.schemas.command_entries import CommandCancelled as CommandCancelled
from interlock.schemas.command_entries import DeadLettered as DeadLettered
from interlock.schemas.command_entries import DispatchAttempted as DispatchAttempted
from interlock.schemas.command_entries import DispatchFailed as DispatchFailed
from interlock.schemas.command_entries import DispatchSuspended as DispatchSuspended
from interlock.schemas.command_entries import MessageReceived as MessageReceived
from interlock.schemas.command_entries import MessageSent as MessageSent
from interlock.schemas.command_entries import ReplyRefused as ReplyRefused
from interlock.schemas.command_entries import TimerFired as TimerFired
from interlock.schemas.command_entries import TimerSet as TimerSet
from interlock.schemas.effect_entries import DeedSettled as DeedSettled
from interlock.schemas.effect_entries import EffectEnded as EffectEnded
from interlock.schemas.effect_entries import EffectIntended as EffectIntended
from interlock.schemas.effect_entries import EffectProbed as EffectProbed
from interlock.schemas.effect_entries import EffectRefused as EffectRefused
from interlock.schemas.effect_entries import EffectUnknown as EffectUnknown
from interlock.schemas.effect_entries import GrantLapsed as GrantLapsed
from interlock.schemas.effect_entries import ModelCalled as ModelCalled
from interlock.schemas.effect_entries import ModelCutOff as ModelCutOff
from interlock.schemas.fact import ERASED as ERASED
from interlock.schemas.fact import PRUNED as PRUNED
from interlock.schemas.fact import Fact as Fact
from interlock.schemas.fact import Gone as Gone
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.order_entries import OrderRecorded as OrderRecorded
from interlock.schemas.order_entries import ReceiptRecorded as ReceiptRecorded
from interlock.schemas.order_entries import StopCarriedOut as StopCarriedOut
from interlock.schemas.order_entries import StopOrdered as StopOrdered
from interlock.schemas.talk_entries import ContextFolded as ContextFolded
from interlock.schemas.talk_entries import SelfChecked as SelfChecked
from interlock.schemas.turns import NORMAL
from interlock.schemas.undo_entries import UndoBegun as UndoBegun
from interlock.schemas.undo_entries import UndoRegistered as UndoRegistered

SEAL = b"\0"
"""Stands in stored data between the head, which is JSON and never has this byte, and what is sealed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored entry. `at`: microseconds since the epoch, UTC. `hash` = SHA-256 over the previous hash, header and `data`.

    Where `data` has a seal `content` is what is under it, JSON of those fields that are still there, and `gone` says why others are not;
    none while it has not been opened.
    """

    seq: int
    epoch: int
    at: int
    task: str
    kind: str
    data: bytes
    hash: bytes
    content: bytes | None = field(default=None, compare=False)
    gone: str = field(default="", compare=False)

    def open(self) -> Fact:
        """The typed fact in it; fields that this version does not know are left out, content that is there no more is `Gone`."""
        cls, known = KINDS[self.kind], _FIELDS[self.kind]
        head, seal, _ = self.data.partition(SEAL)
        said = decode(head)
        if seal:
            self._add_content(said, (*cls.CONTENT, *cls.KEPT))
        if not said.keys() <= known:
            said = {key: value for key, value in said.items() if key in known}
        fact: Fact = cls(**said)
        return fact

    def _add_content(self, said: dict[str, Any], names: tuple[str, ...]) -> None:
        if self.content is None:
            raise ValueError(f"entry {self.seq} is sealed: read it by a reader, which has the keys")
        if self.content:
            said.update(decode(self.content))
        if self.gone:
            gone = Gone(self.gone)
            said.update({name: gone for name in names if name not in said})
            error = said.get("error")
            if isinstance(error, dict) and "message" not in error:
                said["error"] = {"code": error["code"], "message": gone, "facts": {}}


# --- a submit of which no task came -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskRefused(Fact):
    """A submit that the bus refused for a reason worth keeping; no task came of it. It stands under the id that was submitted."""

    KIND: ClassVar[str] = "task.refused"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    id: str
    type: str
    error: Any
    by: str


# --- a task ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskAccepted(Fact):
    KIND: ClassVar[str] = "task.accepted"
    CONTENT: ClassVar[tuple[str, ...]] = ("request",)
    type: str
    workflow_version: str
    contract: str
    contract_version: str
    request: Any
    limits: dict[str, Any]
    label: str
    by: str
    tenant: str = DEFAULT_TENANT
    priority: str = NORMAL


@dataclass(frozen=True, slots=True)
class MessagePosted(Fact):
    """A message into the running task, from outside; `message` is the client's own id of it. Its workflow may receive it."""

    KIND: ClassVar[str] = "message.posted"
    CONTENT: ClassVar[tuple[str, ...]] = ("envelope",)
    message: str
    contract: str
    by: str
    label: str
    envelope: Any


@dataclass(frozen=True, slots=True)
class PostRefused(Fact):
    """A message into a known task that the bus refused; nothing of it reached the workflow."""

    KIND: ClassVar[str] = "post.refused"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    message: str
    contract: str
    error: Any
    by: str


@dataclass(frozen=True, slots=True)
class TaskDiverged(Fact):
    KIND: ClassVar[str] = "task.diverged"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    error: Any


@dataclass(frozen=True, slots=True)
class TaskEnded(Fact):
    """`outcome` is one of `Outcome`; `error` is a wire error or null; `result` the reply's envelope data or null; `undo` the task that
    undoes what it did, empty where none does."""

    KIND: ClassVar[str] = "task.ended"
    CONTENT: ClassVar[tuple[str, ...]] = ("reason", "result", "error")
    outcome: str
    reason: str
    result: Any = None
    contract: str = ""
    contract_version: str = ""
    error: Any = None
    label: str = "trusted"
    undo: str = ""


@dataclass(frozen=True, slots=True)
class RunnerLost(Fact):
    """A runner ended, or was ended, in the middle of this task's workflow, after its event `event`. `strike` counts how often in a row:
    a task that comes to rest again begins anew."""

    KIND: ClassVar[str] = "runner.lost"
    runner: str
    why: str
    event: int
    strike: int


@dataclass(frozen=True, slots=True)
class TaskParked(Fact):
    """Nothing is under way for the task: it leaves memory until somebody wants something of it, at the latest at `wakes` (microseconds; 0:
    never by itself). It is parked as long as this is the last entry about it. `items` are open in the inbox, `dead` of them dead letters;
    `dispatches` wait for them, of these `agents`, one for each."""

    KIND: ClassVar[str] = "task.parked"
    wakes: int = 0
    items: int = 0
    dead: int = 0
    dispatches: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


# --- what waits for a human -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemAsked(Fact):
    """`kind`: `approval` (of exactly the call whose digest this is), `question` (a workflow's), `unknown` (did it happen?), `diverged`
    (replay it with the code that is there now?), `dead` (hand a dead letter out again?).

    `n` is the question's command, 0 elsewhere; `expires` microseconds since the epoch.
    """

    KIND: ClassVar[str] = "item.asked"
    CONTENT: ClassVar[tuple[str, ...]] = ("text", "details", "digest")
    item: str
    kind: str
    to: str
    text: str
    expires: int
    n: int = 0
    dispatch: str = ""
    effect: str = ""
    digest: str = ""
    details: Any = None


@dataclass(frozen=True, slots=True)
class ItemDecided(Fact):
    """`decision`: `approved`, `denied`, `expired`, or `withdrawn` where what was asked has been answered otherwise."""

    KIND: ClassVar[str] = "item.decided"
    CONTENT: ClassVar[tuple[str, ...]] = ("note",)
    item: str
    decision: str
    by: str
    note: str = ""
    n: int = 0


KINDS: dict[str, type[Any]] = {
    cls.KIND: cls
    for cls in (
        EpochStarted,
        AppDeployed,
        ContractRegistered,
        StopOrdered,
        StopCarriedOut,
        TaskRefused,
        TaskAccepted,
        MessagePosted,
        PostRefused,
        TaskDiverged,
        RunnerLost,
        TaskParked,
        TaskEnded,
        OrderRecorded,
        ReceiptRecorded,
        MessageSent,
        MessageReceived,
        DispatchAttempted,
        DispatchFailed,
        DispatchSuspended,
        DeadLettered,
        ReplyRefused,
        TimerSet,
        TimerFired,
        CommandCancelled,
        EffectIntended,
        EffectEnded,
        EffectUnknown,
        EffectRefused,
        EffectProbed,
        GrantLapsed,
        DeedSettled,
        ModelCalled,
        ModelCutOff,
        ContextFolded,
        SelfChecked,
        ItemAsked,
        ItemDecided,
        TaskErased,
        ContentPruned,
        *(BudgetChanged, BudgetNeared, EstimateExceeded, LimitChanged, LimitNeared, UndoRegistered, UndoBegun),
    )
}

_FIELDS = {kind: frozenset(field.name for field in fields(cls)) for kind, cls in KINDS.items()}
