"""Entries about undoing. They are used as all entries are, by `interlock.schemas.entries`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class UndoRegistered(Fact):
    """Command `n` of a workflow: should the task not succeed, a call of `tool` takes back what its calls of the tool `of` did; empty: it is
    called in any case."""

    KIND: ClassVar[str] = "undo.registered"
    CONTENT: ClassVar[tuple[str, ...]] = ("arguments",)
    n: int
    tool: str
    of: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class UndoBegun(Fact):
    """In an undoing task: the undo that command `n` of the other one registered goes out as this dispatch; again where it failed before."""

    KIND: ClassVar[str] = "undo.begun"
    n: int
    tool: str
    dispatch: str
