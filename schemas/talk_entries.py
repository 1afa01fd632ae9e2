"""Entries about what an agent that is a model does to its own conversation.

They are used as all entries are, by `interlock.schemas.entries`. `n` numbers those of one dispatch from 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class ContextFolded(Fact):
    """The conversation was over its bound: `cut` tool results were cut, then the oldest `folded` messages became a note, and the goal was
    restated after it. `before` and `after` are bytes."""

    KIND: ClassVar[str] = "context.folded"
    dispatch: str
    attempt: str
    n: int
    cut: int
    folded: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class SelfChecked(Fact):
    """What the model said of itself after so many steps of this dispatch: what it has done, what is left, whether it is still on its goal.
    `problem` says why its answer was none; that is a no."""

    KIND: ClassVar[str] = "self.checked"
    CONTENT: ClassVar[tuple[str, ...]] = ("progress", "left")
    dispatch: str
    attempt: str
    n: int
    steps: int
    on_goal: bool
    progress: str = ""
    left: str = ""
    problem: str = ""
