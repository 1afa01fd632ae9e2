"""Who answers what waits for a human while a delivery runs: the person at the terminal, or a policy that says that it did.

A policy approves acts if it was told to, and says no to every question: it knows nothing that the team does not know.
"""

from typing import Any, NamedTuple, Protocol

import click

from interlock.app import App
from interlock.cli import output
from interlock.cli.narration import diffstat
from interlock.schemas.entries import ItemAsked
from interlock.tools.approval import describe_act

_TAIL = 30
APPROVE, DENY = True, False


class Answer(NamedTuple):
    """`by` is empty for the person at the terminal; `said` is what to tell of it."""

    approve: bool
    by: str
    note: str
    said: str


class Answerer(Protocol):
    """Whoever decides."""

    def answer(self, item: ItemAsked) -> Answer: ...


class Policy:
    """Approves acts and denies questions; `why` nobody is asked."""

    def __init__(self, why: str) -> None:
        self._why = why

    def answer(self, item: ItemAsked) -> Answer:
        approve = APPROVE if item.kind == "approval" else DENY
        name = "approve" if approve else "deny"
        return Answer(approve, f"policy {name}", self._why, f"{self._why}: policy `{name}` answered the {item.kind}")


class Person:
    """Shows exactly what is decided, and asks."""

    def __init__(self, app: App, on_stderr: bool) -> None:
        self._app, self._err = app, on_stderr

    def answer(self, item: ItemAsked) -> Answer:
        self._say("")
        if item.kind == "approval":
            approve, note = self._approval(item), ""
        else:
            approve, note = self._question(item)
        return Answer(approve, "", note, "you approved it" if approve else "you denied it")

    def _approval(self, item: ItemAsked) -> bool:
        arguments: dict[str, Any] = item.details["arguments"]
        tools = {tool.spec.name: tool.spec for tool in self._app.agents[item.details["agent"]].tools}
        diffs: list[str] = arguments.get("diffs", [])
        self._say(f"{item.details['agent']} asks for approval of exactly this act:")
        self._say(describe_act(tools[item.details["tool"]], arguments, apart=("diffs",)))
        for line in diffstat(diffs):
            self._say(f"  {line}")
        while True:
            said = self._choose("Approve it? [y]es, [n]o, show the [d]iff", ("y", "n", "d"))
            if said != "d":
                return said == "y"
            for diff in diffs:
                self._say(diff)

    def _question(self, item: ItemAsked) -> tuple[bool, str]:
        self._say(item.text)
        details = item.details or {}
        tests = str(details.get("tests", "")).rstrip().split("\n")
        self._say("Review said: " + output.one_line(str(details.get("comments", ""))))
        earlier = f" (the last {_TAIL} of {len(tests)} lines)" if len(tests) > _TAIL else ""
        self._say("\n".join([f"The tests said{earlier}:", *(f"  {line}" for line in tests[-_TAIL:])]))
        approve = self._choose("Try again? [y]es, [n]o", ("y", "n")) == "y"
        note = str(click.prompt("A note for the team (may be empty)", default="", show_default=False, err=self._err)) if approve else ""
        return approve, note

    def _choose(self, question: str, choices: tuple[str, ...]) -> str:
        while True:
            said = str(click.prompt(question, err=self._err)).strip().lower()[:1]
            if said in choices:
                return said

    def _say(self, text: str) -> None:
        output.lines(text, err=self._err)
