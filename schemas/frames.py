"""Frames: what the orchestrator and its peers (replicas, runners, model gateways) hand each other in one exchange.

A frame is a named tuple that travels as a MessagePack list `[tag, *fields]`; payloads are bytes end to end. The graph is a
star: every frame has the orchestrator at one end. `schemas/ports.py` has the exchange itself.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgpack

from interlock.schemas.budget import BOUND

SPENT = "spent"
"""Among what a peer holds: it has had the one dispatch that it is for, and takes no other."""

# --- orchestrator → replica -----------------------------------------------------------------------------------------


class Dispatch(NamedTuple):
    """Work: one message for one agent, its envelope in two parts: attributes and data. `records` are effects that earlier attempts
    recorded: `(effect, ok, value, differs)`. `goal` and `until` say what the whole task is for and when it is done; `migrated` names the
    migrations that make of the message one that the agent reads."""

    dispatch: str
    task: str
    attempt: str
    agent: str
    head: bytes
    data: bytes
    returns: list[str]
    records: list[list[Any]]
    goal: str = ""
    until: str = ""
    migrated: Sequence[str] = ()


class Granted(NamedTuple):
    """The tool call `effect` may run now, once. `key` is its idempotency key. `seconds` after this came it may not begin any more."""

    dispatch: str
    effect: str
    key: str
    seconds: float


class Answered(NamedTuple):
    """The effect has ended and is durable. `value` is JSON: the result, or a wire error where `ok` is false. `differs`: it is the result of
    an earlier call under the same key, with other arguments."""

    dispatch: str
    effect: str
    ok: bool
    value: bytes
    differs: bool = False


class Probe(NamedTuple):
    """Look whether the effect that is asked for has happened already, by the tool's own probe."""

    dispatch: str
    effect: str
    key: str


class Drop(NamedTuple):
    """Let go of the dispatch, say nothing more about it. `attempt` guards against dropping a later one."""

    dispatch: str
    attempt: str
    why: str


# --- replica → orchestrator -----------------------------------------------------------------------------------------


class EffectAsked(NamedTuple):
    """The dispatch wants an effect. `kind`: `model`, `read`, `write` or `irreversible`; `args` JSON (of a model: the request
    body without the output cap); `name` the tool or the model; `instead_of`: the model that gave no answer, in whose place this one is
    asked."""

    dispatch: str
    attempt: str
    effect: str
    kind: str
    name: str
    args: bytes
    instead_of: str = ""


class ToolEnded(NamedTuple):
    """`outage`: it failed because the system behind it does not answer or is out of order."""

    task: str
    dispatch: str
    attempt: str
    effect: str
    tool: str
    ok: bool
    value: bytes
    latency_ms: float
    cut: bool
    outage: bool = False


class Probed(NamedTuple):
    """What the probe found: `answer` is `happened` (`value` its result), `not_happened` or `cannot_tell` (`value` says why)."""

    dispatch: str
    attempt: str
    effect: str
    answer: str
    value: bytes


class Lapsed(NamedTuple):
    """The grant of this effect came too late or was not used in time: the tool has not begun, and does not begin under it."""

    dispatch: str
    attempt: str
    effect: str


class Noted(NamedTuple):
    """What the agent says of itself: note `n` of its dispatch, an entry of `kind` with these `facts` (JSON)."""

    dispatch: str
    attempt: str
    n: int
    kind: str
    facts: bytes


class Replied(NamedTuple):
    dispatch: str
    attempt: str
    contract: str
    version: str
    data: bytes
    degraded: bool
    task: str


class DispatchFailure(NamedTuple):
    dispatch: str
    attempt: str
    error: bytes
    task: str


class LetGo(NamedTuple):
    """A dropped dispatch has really ended here."""

    dispatch: str
    attempt: str


# --- orchestrator → runner ------------------------------------------------------------------------------------------


class CheckEntry(NamedTuple):
    """Does the workflow's entry condition hold for this request?"""

    task: str
    workflow: str
    request: bytes


class Start(NamedTuple):
    """Run a task's workflow from its beginning. `history` is empty, or all that was recorded: `Happened` and `Command` lists
    in ledger order. `at` microseconds since the epoch: the task's acceptance."""

    task: str
    workflow: str
    request: bytes
    at: int
    history: list[list[Any]]


class Happened(NamedTuple):
    """One event for a task, numbered from 1: what became of command `n`, or with `n` 0 a message that was sent into the task. `kind`:
    `reply`, `failure`, `timer`, `answer`, `message`. `value` is JSON (the data of a reply or a message, a wire error, null, an answer);
    `at` microseconds: `ctx.now()` from here on. Of a reply and of a message `name` and `version` are the contract; `degraded` says whether
    a reply was built on failed or cut tool results, `migrated` names the migrations that make of it one that is awaited."""

    task: str
    event: int
    n: int
    kind: str
    value: bytes
    at: int
    evidence: bytes
    name: str = ""
    version: str = ""
    degraded: bool = False
    migrated: Sequence[str] = ()


class Forget(NamedTuple):
    """The task has ended or moved elsewhere."""

    task: str


# --- runner → orchestrator ------------------------------------------------------------------------------------------


class EntryChecked(NamedTuple):
    task: str
    ok: bool
    problem: str


class Command(NamedTuple):
    """One thing that a workflow asked for. `kind`: `ask`, `sleep`, `human`, `undo`, `cancel`, `done`, `failed`.

    `name` and `version` are the contract of an ask or a result; `returns` the contracts awaited; `data` JSON: the message, the
    seconds, the question, the wire error; of an undo `name` is its tool, `version` the tool whose effect it takes back, and `data` the
    arguments; `n` numbers asks, sleeps, questions and undos of a task from 1 (of a cancel: the command
    cancelled). `refused`: the wire error with which this ask has failed already, else empty.
    """

    n: int
    kind: str
    name: str
    version: str
    data: bytes
    returns: list[str]
    refused: bytes = b""


class Commands(NamedTuple):
    """What the workflow asked for after event `after` (0: the start), at rest again. `diverged`: a wire error, else empty."""

    task: str
    after: int
    commands: list[Any]
    diverged: bytes


# --- orchestrator → models, models → orchestrator -------------------------------------------------------------------


class CallModel(NamedTuple):
    """Make one model call. `number` counts repeats after a dead gateway; reservation id is `effect#number`. `estimate` says how its input
    is bounded, see `Budget`."""

    effect: str
    task: str
    number: int
    model: str
    request: bytes
    traceparent: str
    dispatch: str = ""
    estimate: str = BOUND


class CancelCall(NamedTuple):
    effect: str


class CallEnded(NamedTuple):
    """The call's full record, JSON with the fields of `ModelCalled` from `model` on. `ok` false: `error` says why.
    `task` and `dispatch` are those of the `CallModel`: a new orchestrator may hear of the call here first."""

    effect: str
    number: int
    ok: bool
    record: bytes
    task: str = ""
    dispatch: str = ""


class BreakerMoved(NamedTuple):
    """A circuit breaker of the gateway has opened, after so many failures in a row, or closed."""

    model: str
    endpoint: str
    open: bool
    failures: int
    last: str


FRAMES: tuple[type[Any], ...] = (
    Dispatch,
    Granted,
    Answered,
    Drop,
    EffectAsked,
    ToolEnded,
    Replied,
    DispatchFailure,
    LetGo,
    CheckEntry,
    Start,
    Happened,
    Forget,
    EntryChecked,
    Command,
    Commands,
    CallModel,
    CancelCall,
    CallEnded,
    Probe,
    Probed,
    Lapsed,
    Noted,
    BreakerMoved,
)
FRAMES_AT_MOST = 128
"""How many frames one exchange carries each way: a crowd of messages flows through the actors side by side instead of wave by wave."""

BYTES_AT_MOST = 90_000
"""How large their frames are together, but for a single one that is larger: Ray carries 100 KiB in a call itself, and takes anything
larger through its object store, where it costs the bus a tenth of its speed."""

_TAGS = {cls: tag for tag, cls in enumerate(FRAMES)}

Frame = tuple[Any, ...]


def tagged(frame: Frame) -> list[Any]:
    return [_TAGS[type(frame)], *frame]


def untagged(wire: list[Any]) -> Any:
    return FRAMES[wire[0]](*wire[1:])


def carried(frames: Iterable[Frame]) -> list[bytes]:
    """The first of these frames, each packed: as many as one exchange carries, one at least."""
    packer, size = msgpack.Packer(), 0
    packed: list[bytes] = []
    for frame in islice(frames, FRAMES_AT_MOST):
        one = packer.pack([_TAGS[type(frame)], *frame])
        size += len(one)
        if size > BYTES_AT_MOST and packed:
            break
        packed.append(one)
    return packed


def pack(head: list[Any], packed: list[bytes]) -> bytes:
    """One exchange's bytes: `head` (plain values) and frames that are `carried`."""
    packer = msgpack.Packer()
    return b"".join((packer.pack_array_header(2), packer.pack(head), packer.pack_array_header(len(packed)), *packed))


def unpack(data: bytes) -> tuple[list[Any], list[Any]]:
    """The head and the frames in an exchange's bytes."""
    head, frames = msgpack.unpackb(data)
    return head, [FRAMES[frame[0]](*frame[1:]) for frame in frames]
