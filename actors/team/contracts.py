"""What the delivery team's specialists say to each other, by way of the bus: each question and its answer as a contract.

A change is a diff together with all that it stands on. `change_of` names it, so that what was tested, what was approved and what was
committed can be compared, whoever says what about it.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from interlock.schemas.canonical import digest
from interlock.schemas.message import Message, Untrusted

SUBTASKS_AT_MOST = 5
STAGING = "interlock/staging"

Text = Annotated[str, Field(min_length=1)]


def change_of(base: str, diffs: Sequence[str]) -> str:
    """The name of a change: commit `base` with `diffs` applied in order."""
    return digest([base, list(diffs)])


class Subtask(Message):
    """One step towards the goal, small enough for one diff."""

    title: Annotated[Untrusted[str], Field(min_length=1, max_length=120)]
    description: Untrusted[str]


class Rejected(Message):
    """An earlier diff, what its tests came to, and what was said against it."""

    diff: Untrusted[str]
    tests: Untrusted[str]
    comments: Untrusted[str]


class Delivered(Message):
    """A subtask that is done: `change` names what was tested, `round` is the one in which it was approved."""

    title: Untrusted[str]
    summary: Untrusted[str]
    round: int
    change: str


class DeliveryRequest(Message, contract="delivery.request", version="1.0.0"):
    """`repository`: the absolute path of a git repository. `test_command`: how its tests are run, where that cannot be found out."""

    repository: Text
    goal: Text
    branch: Text = STAGING
    test_command: str = ""


class DeliveryReply(Message, contract="delivery.reply", version="1.0.0"):
    """`commit` stands on `branch`, upon `base`. `sandbox` is the one that its tests ran in."""

    commit: str
    branch: str
    base: str
    delivered: list[Delivered]
    sandbox: str


class BaseRequest(Message, contract="base.request", version="1.0.0"):
    """On which commit does work for `branch` begin?"""

    repository: str
    branch: str


class BaseReply(Message, contract="base.reply", version="1.0.0"):
    commit: str


class PlanningRequest(Message, contract="planning.request", version="1.0.0"):
    repository: str
    base: str
    goal: str


class PlanningReply(Message, contract="planning.reply", version="1.0.0"):
    subtasks: Annotated[list[Subtask], Field(min_length=1, max_length=SUBTASKS_AT_MOST)]


class CodingRequest(Message, contract="coding.request", version="1.0.0"):
    """`accepted` are the diffs of earlier subtasks, which `base` already counts with; `earlier` is what was rejected in the last round."""

    repository: str
    base: str
    accepted: list[Untrusted[str]]
    goal: str
    subtask: Subtask
    round: int
    earlier: Rejected | None = None


class CodingReply(Message, contract="coding.reply", version="1.0.0"):
    """`diff`: a unified diff against `base` with `accepted`. `summary`: what it does and why, in a sentence or two."""

    diff: Untrusted[str]
    summary: Untrusted[str]


class ReviewRequest(Message, contract="review.request", version="1.0.0"):
    """Is `diff` good? It stands on `base` with `accepted`."""

    repository: str
    base: str
    accepted: list[Untrusted[str]]
    goal: str
    subtask: Subtask
    diff: Untrusted[str]
    summary: Untrusted[str]
    test_command: str


class ReviewReply(Message, contract="review.reply", version="1.0.0"):
    """`comments`: what has to change; where nothing has to, why it is good."""

    approved: bool
    comments: Untrusted[str]


class DeployRequest(Message, contract="deploy.request", version="1.0.0"):
    """Commit `base` with `diffs` to `branch`. `when`: the commit's date, in microseconds since the epoch."""

    repository: str
    base: str
    branch: str
    diffs: list[Untrusted[str]]
    text: Untrusted[str]
    when: int


class DeployReply(Message, contract="deploy.reply", version="1.0.0"):
    commit: str
    branch: str
