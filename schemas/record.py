"""How a task ended and what it used: outcomes, the run record, the receipt of a kill."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import Field

from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.message import Message


class Outcome(StrEnum):
    """How a task ended; exactly one per task, and it never changes."""

    SUCCESS = "success"
    FAILED = "failed"
    REJECTED = "rejected"
    KILLED = "killed"
    BUDGET_EXCEEDED = "budget_exceeded"
    EXPIRED = "expired"


class State(StrEnum):
    """Where a task that has no outcome yet stands; `ENDED` once it has one."""

    RUNNING = "running"
    WAITING = "waiting"
    DIVERGED = "diverged"
    ENDED = "ended"


class ToolCall(Message):
    tool: str
    latency_ms: float = Field(ge=0)
    success: bool


class RunRecord(Message, contract="interlock.run_record", version="1.0.0"):
    """What one task did and cost; `interlock show TASK --json` prints it. Times are RFC 3339 UTC, money is decimal USD.

    `cut_off_calls` are model calls whose gateway died while they were in flight. Nobody knows what they used, so they are charged as
    reserved: `cut_off_tokens` in and out together, and their share of `cost_usd`. `folds` counts how often the beginning of a conversation
    with a model was folded into a note to make room, `self_checks` how often one was asked whether it is still on its goal.
    """

    task_id: str = Field(pattern="^tsk_[0-9a-z-]+$")
    task_type: str
    tenant: str = DEFAULT_TENANT
    start_time: str
    end_time: str | None
    steps: int = Field(ge=0)
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cut_off_calls: int = Field(default=0, ge=0)
    cut_off_tokens: int = Field(default=0, ge=0)
    folds: int = Field(default=0, ge=0)
    self_checks: int = Field(default=0, ge=0)
    cost_usd: str = Field(pattern=r"^[0-9]+(\.[0-9]+)?$")
    tool_calls: list[ToolCall]
    outcome: Outcome | None
    error: str | None


@dataclass(slots=True)
class Receipt:
    """The proof of what a kill stopped. Times are seconds since the epoch, `None` where the step did not happen.

    `processes` says of each process that held the task how it let go (`cancelled`, `killed`, `gone`, `unverified`);
    `verified` is true only if there is evidence for every one of them. `last_grant` and `last_effect`: when something was granted for the
    last time before the fence, and when an effect ended for the last time. `half_done` are writes that were granted and of which nobody
    knows the end: `effect`, `tool`, `label` (of what it was called with); `undos` what takes back what was done, and how that stands:
    `undoing` (the task that does it), `n`, `tool`, `of`, `state`. `heard`: the engine had said by then what of that there is.

    Of a stop `task` is its own id, `selection` what it named, `tasks` how many tasks it has ended; the receipts of these say by `part_of`
    that it was this stop, and it alone lists the processes.
    """

    order: str
    task: str
    by: str
    why: str
    requested: float
    durable: float | None = None
    fenced: float | None = None
    last_gone: float | None = None
    processes: list[dict[str, Any]] = field(default_factory=list)
    unknown_effects: list[str] = field(default_factory=list)
    verified: bool = False
    last_grant: float | None = None
    last_effect: float | None = None
    half_done: list[dict[str, Any]] = field(default_factory=list)
    selection: str = ""
    tasks: int = 0
    part_of: str = ""
    undos: list[dict[str, Any]] = field(default_factory=list)
    heard: bool = True
