"""Goal drift: every so many steps a model is asked whether it is still on its goal, and one that is not, twice in a row, is stopped.

The question goes beside the conversation, so that what the model says of itself is no part of it. After a first no the goal is restated in
it. An answer that is none counts as a no: who cannot say what it is doing is not trusted to be doing it.
"""

from typing import Any, NamedTuple

from interlock.actors.aim import Aim
from interlock.schemas.canonical import decode
from interlock.schemas.errors import Drifted

CHECK = "[self-check]"
"""How the question begins."""

NOES_AT_MOST = 2

_TEXT = {"type": "string"}
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"progress": _TEXT, "left": _TEXT, "on_goal": {"type": "boolean"}},
    "required": ["progress", "left", "on_goal"],
    "additionalProperties": False,
}
_ASKED = (
    'Answer with one JSON object and nothing else: "progress", what has been done so far; "left", what is left to do; "on_goal", true if '
    "what was done last serves the goal and the request at the beginning, false if it does not. Call no tool now."
)
_SAID_CHARS = 2_000


class SelfCheck(NamedTuple):
    """What a model said of itself after so many steps; `problem` says why its answer was none."""

    steps: int
    on_goal: bool
    progress: str = ""
    left: str = ""
    problem: str = ""


class Checks:
    """The self-checks of one dispatch of `agent`. None as `every`: there are none."""

    def __init__(self, agent: str, every: int | None, aim: Aim) -> None:
        self._agent, self._every, self._aim = agent, every, aim
        self._steps = self._checked = self._noes = 0

    def did(self, steps: int) -> None:
        """Count model calls and tool calls; the checks themselves are none of them."""
        self._steps += steps

    @property
    def due(self) -> bool:
        return self._every is not None and self._steps - self._checked >= self._every

    def question(self) -> dict[str, Any]:
        return {"role": "user", "content": f"{CHECK} {self._aim.said()}\nIs what you are doing still on this goal? {_ASKED}"}

    def take(self, answer: str) -> SelfCheck:
        """Read an answer and count it."""
        self._checked = self._steps
        check = self._read(answer)
        self._noes = 0 if check.on_goal else self._noes + 1
        return check

    def _read(self, answer: str) -> SelfCheck:
        try:
            said = decode(answer)
        except ValueError:
            return SelfCheck(self._steps, False, problem="it is not JSON")
        if not isinstance(said, dict) or not isinstance(said.get("on_goal"), bool):
            return SelfCheck(self._steps, False, problem="it does not say whether it is on its goal")
        progress, left = (str(said.get(name, ""))[:_SAID_CHARS] for name in ("progress", "left"))
        return SelfCheck(self._steps, said["on_goal"], progress, left)

    def follow(self, check: SelfCheck) -> list[dict[str, Any]]:
        """What the model is told after this check; raises `Drifted` where it was the second no in a row."""
        if self._noes >= NOES_AT_MOST:
            said = check.problem or f"{check.progress}; left: {check.left}"
            raise Drifted(agent=self._agent, checks=self._noes, steps=check.steps, said=said)
        return [] if check.on_goal else [{"role": "user", "content": self._aim.restated()}]
