"""Declarations as data: what an app is, without its code.

The trusted base reads these and never loads user code; replicas and runners load the code and are told which part is theirs.
"""

from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, Literal, Self

from interlock.schemas.breaker import FAILURES
from interlock.schemas.budget import BOUND, Estimate, parse_amounts
from interlock.schemas.canonical import digest
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.limits import ScopeLimits
from interlock.schemas.needs import Needs
from interlock.schemas.sizes import size_of
from interlock.schemas.times import LONGEST_SECONDS
from interlock.schemas.turns import NORMAL, Priority

Effect = Literal["read", "write", "irreversible"]
Isolation = Literal["shared", "exclusive"]
RepeatKind = Literal["keyed", "natural", "never"]
Scope = Literal["task", "bus"]

RUNNERS, MODELS = OWN_POOLS = ("runners", "models")
"""The pools that are no agent's."""

OWN_BOUNDS = (1, 4)
"""How many members they have, by their load."""

LIVE_TASKS, QUEUED_MESSAGES = 100_000, 100_000
"""How many tasks a bus has in memory, and how many messages wait for an agent, before submits are refused."""

RESUME_SECONDS = 10.0
"""How long a workflow may take from an event until it is at rest again, where it declares nothing else: it only decides what to ask."""

REPEATS = 3
"""How often the same may be asked and the same be heard, where nothing else is declared."""


WINDOW_AT_LEAST = 8_000
"""The smallest window that a conversation may have, in bytes."""


@dataclass(frozen=True, slots=True)
class ContractRef:
    """One version of one contract, written `invoice.request 1.0.0`."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """What turns messages of one major of a contract into those of another."""

    source: ContractRef
    target: ContractRef

    @property
    def name(self) -> str:
        return f"{self.source} to {self.target.version}"


@dataclass(frozen=True, slots=True)
class RepeatSpec:
    """How a write tool repeats. `key`: the argument that names the deed (keyed: the system behind it does one deed per key, or a `probe`
    can look) or the state it sets (natural)."""

    kind: RepeatKind
    key: str = ""
    scope: Scope = "task"
    probe: bool = False


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as its readers see it. `timeout` in seconds, `max_bytes` bounds the encoded result; after `breaker` outages in a row of the
    system behind it, it is not called for a while (0: called all the same)."""

    name: str
    description: str
    parameters: dict[str, Any]
    returns: dict[str, Any]
    effect: Effect
    system: str = ""
    repeat: RepeatSpec | None = None
    timeout: float = 30.0
    max_bytes: int = 65_536
    trusted_because: str = ""
    secrets: tuple[str, ...] = ()
    breaker: int = FAILURES


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A specialist: the contracts that it takes and answers with, its own tools, its pool's size. `memory` in bytes that a replica may use,
    0: a share of its node; `needs` is what its node must have for it; where `queue` messages wait for it, submits are refused whose tasks
    would have it wait for more."""

    name: str
    version: str
    accepts: tuple[ContractRef, ...]
    returns: tuple[ContractRef, ...]
    tools: tuple[str, ...] = ()
    kind: Literal["model", "code"] = "code"
    replicas: tuple[int, int] = (1, 8)
    concurrency: int = 64
    memory: int = 0
    needs: Needs = field(default_factory=Needs)
    queue: int = QUEUED_MESSAGES
    isolation: Isolation = "shared"

    @property
    def exclusive(self) -> bool:
        """Whether each dispatch has a process to itself, which ends after it."""
        return self.isolation == "exclusive"


def check_repeats(what: str, repeats: int | None) -> None:
    if repeats is not None and repeats < 2:
        remedy = "Write repeats=3, or None where the same may be asked for ever."
        raise BadDeclaration(what=what, problem=f"repeats={repeats}, and what is done for the first time repeats nothing", remedy=remedy)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Bounds of what an agent that is a model says and does in one dispatch, beside the task's budget.

    `turns` are answers of the model, tool calls or not. The same tool call with the same result in `repeats` of them is a loop. `window`
    (as in "256KB") bounds the messages that the model is sent: over it old tool results are cut, then the oldest turns are folded into a
    note. Every `check_every` steps the model is asked what it has done, what is left and whether it is still on its goal, which is a step
    and costs tokens like any call; after two noes in a row it has drifted. `None` for any of them: without that.
    """

    turns: int | None = 50
    repeats: int | None = REPEATS
    window: str | int | None = "256KB"
    check_every: int | None = 20

    def __post_init__(self) -> None:
        check_repeats("Conversation(...)", self.repeats)
        if self.turns is not None and self.turns < 1:
            problem = f"turns={self.turns}, and an answer is one"
            raise BadDeclaration(what="Conversation(...)", problem=problem, remedy="Write turns=50, or None for no bound.")
        if self.check_every is not None and self.check_every < 1:
            problem = f"check_every={self.check_every}, and nobody can be asked before the first step"
            raise BadDeclaration(what="Conversation(...)", problem=problem, remedy="Write check_every=20, or None for no checks.")
        if self.window is not None and (self.window_bytes or 0) < WINDOW_AT_LEAST:
            problem = f"window={self.window!r} is no size, or less than a conversation needs ({WINDOW_AT_LEAST // 1000} KB)"
            raise BadDeclaration(what="Conversation(...)", problem=problem, remedy='Write as in window="256KB", or None for no bound.')

    @property
    def window_bytes(self) -> int | None:
        return None if self.window is None else size_of(self.window)


@dataclass(frozen=True, slots=True)
class Escalate:
    """To whom what waits for a human goes, and after how many seconds the answer is `default`: the task has `expired`."""

    to: str
    seconds: float = 86_400.0
    default: Literal["deny"] = "deny"

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST_SECONDS:  # also false of a NaN
            problem = f"a time is more than 0 seconds and at most {LONGEST_SECONDS}"
            raise BadDeclaration(what=f"Escalate(seconds={self.seconds})", problem=problem, remedy="Write as in seconds=3600.")


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """A task type. `limits` are the budget by meter; `entry` and `exit` name the conditions, empty where there is none; `receives` are the
    contracts that may be sent into its running tasks; `resume_seconds` may pass from an event until it is at rest again; `memory` in bytes
    that a runner may use on its account, 0: a share of its node; `goal` says what its tasks are for (`{field}` is one of the request),
    `until` when they are done: both go with each dispatch; `priority` is theirs where a submit names no other; `undo` is the budget for
    undoing what one of them did, empty: the common one."""

    name: str
    version: str
    request: ContractRef
    result: ContractRef
    limits: dict[str, Any] = field(default_factory=dict)
    escalate: Escalate = Escalate(to="operators")
    entry: str = ""
    exit: str = ""
    receives: tuple[ContractRef, ...] = ()
    resume_seconds: float = RESUME_SECONDS
    memory: int = 0
    estimate: Estimate = BOUND
    goal: str = ""
    until: str = ""
    priority: Priority = NORMAL
    undo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppSpec:
    """A whole app as data. `schemas` maps `name version` to the contract's JSON Schema, `formerly` are names that the app had before,
    `limits` are on what its tasks share, `live` of them may be in memory; `migrations` lead from one major of a contract to another."""

    name: str
    agents: tuple[AgentSpec, ...]
    workflows: tuple[WorkflowSpec, ...]
    tools: tuple[ToolSpec, ...]
    schemas: dict[str, dict[str, Any]]
    formerly: tuple[str, ...] = ()
    limits: tuple[ScopeLimits, ...] = ()
    live: int = LIVE_TASKS
    migrations: tuple[MigrationSpec, ...] = ()

    @property
    def version(self) -> str:
        """Digest of everything declared: two equal apps have one version."""
        return digest(_plain(self.to_wire()))[:12]

    def to_wire(self) -> dict[str, Any]:
        """All of it as data. The schemas are the very same objects: nobody may change them."""
        return {one.name: _data(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Self:
        return cls(
            name=wire["name"],
            agents=tuple(_agent(agent) for agent in wire["agents"]),
            workflows=tuple(_workflow(workflow) for workflow in wire["workflows"]),
            tools=tuple(_tool(tool) for tool in wire["tools"]),
            schemas=wire["schemas"],
            # Not there in ledgers that were written before there was such a thing.
            formerly=tuple(wire.get("formerly", ())),
            limits=tuple(ScopeLimits(**{**one, "limits": parse_amounts(one["limits"])}) for one in wire.get("limits", ())),
            live=wire.get("live", LIVE_TASKS),
            migrations=tuple(
                MigrationSpec(ContractRef(**one["source"]), ContractRef(**one["target"])) for one in wire.get("migrations", ())
            ),
        )


@lru_cache(maxsize=4096)
def split_ref(text: str) -> ContractRef:
    """The reference that `str(ContractRef)` wrote."""
    name, _, version = text.partition(" ")
    return ContractRef(name, version)


def _refs(wires: list[dict[str, str]]) -> tuple[ContractRef, ...]:
    return tuple(ContractRef(**wire) for wire in wires)


def _agent(wire: dict[str, Any]) -> AgentSpec:
    parts = {
        "accepts": _refs(wire["accepts"]),
        "returns": _refs(wire["returns"]),
        "tools": tuple(wire["tools"]),
        "replicas": tuple(wire["replicas"]),
        "needs": Needs(**wire.get("needs", {})),  # not there in ledgers that were written before there was such a thing
    }
    return AgentSpec(**{**wire, **parts})


def _workflow(wire: dict[str, Any]) -> WorkflowSpec:
    parts = {
        "request": ContractRef(**wire["request"]),
        "result": ContractRef(**wire["result"]),
        "limits": parse_amounts(wire["limits"]),
        "undo": parse_amounts(wire.get("undo", {})),
        "escalate": Escalate(**wire["escalate"]),
        "receives": _refs(wire.get("receives", [])),  # not there in ledgers that were written before there was such a thing
    }
    return WorkflowSpec(**{**wire, **parts})


def _tool(wire: dict[str, Any]) -> ToolSpec:
    repeat = RepeatSpec(**wire["repeat"]) if wire["repeat"] else None
    return ToolSpec(**{**wire, "repeat": repeat, "secrets": tuple(wire["secrets"])})


def _data(part: Any) -> Any:
    """One field of an app as data: its declarations in full, everything else as it is."""
    return tuple(one if isinstance(one, str) else asdict(one) for one in part) if isinstance(part, tuple) else part


def _plain(value: Any) -> Any:
    """The value with every `Decimal` and tuple as plain JSON, for the digest."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
