"""The aim: what the task is for, said to a model at the beginning and again whenever it may have lost sight of it.

Its words are those of who declared the workflow, and plain trusted fields of the request: nothing that a tool returned or an outsider wrote
gets in here.
"""

from typing import NamedTuple

RESTATED = "[restated]"
"""How a message begins that says it again."""


class Aim(NamedTuple):
    """The task's `goal` and `until` when it is not done; either may be empty."""

    goal: str
    until: str

    def opening(self) -> str:
        """For the beginning of a conversation; empty where nobody declared anything."""
        return f"This is one part of a task.\n{self.said()}\n\n" if self.goal or self.until else ""

    def restated(self) -> str:
        """For whoever has come far from the beginning."""
        return f"{RESTATED} {self.said()}\nYour part is the request at the beginning of this conversation. Go on with it."

    def said(self) -> str:
        """Both, where they were declared; else where to find them."""
        goal = f"The task's goal: {self.goal}" if self.goal else ""
        until = f"The task is done when this holds: {self.until}" if self.until else ""
        return "\n".join(filter(None, (goal, until))) or "The goal is what the request at the beginning of this conversation asks for."
