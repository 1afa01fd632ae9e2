"""A delivery as it happens, told entry by entry: who did what, at what cost, and who works on what now.

It knows the team's messages and says what is in them in a few words; all else is told as the audit tells it. What a model wrote is shown
on one line, with nothing hidden in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from interlock.cli.output import one_line
from interlock.orchestrator.ledger.folds import say
from interlock.schemas import entries as e
from interlock.schemas.errors import PatchFailed
from interlock.tools.diffs import parse

_WORDS = 160
_UNTOLD = (e.DispatchSuspended, e.EffectIntended, e.ItemAsked, e.TaskParked)


class Told(NamedTuple):
    """One line: who, what, at what cost."""

    who: str
    what: str
    cost: str = ""


class Narration:
    """Takes a task's facts in order. `at_work` says of each agent what it does; `messages` and `steps` count."""

    def __init__(self) -> None:
        self.at_work: dict[str, str] = {}
        self.messages = 0
        self.steps = 0
        self.sandbox = ""
        self.end: e.TaskEnded | None = None
        self.decisions: list[e.ItemDecided] = []
        self._agents: dict[str, str] = {}

    def take(self, fact: e.Fact) -> Told | None:
        """What to tell of it; nothing where it only prepares what is told next. Whoever wrote it, nothing is hidden in it."""
        told = self._told(fact)
        return None if told is None else Told(*map(one_line, told))

    def _told(self, fact: e.Fact) -> Told | None:
        agent = self._agents.get(getattr(fact, "dispatch", ""), "agent")
        tell = _TELL.get(type(fact))
        if tell is not None:
            return tell(self, fact, agent)
        if isinstance(fact, e.TaskEnded):
            self.end = fact
            self.at_work.clear()
            return Told("bus", f"task ended: {fact.outcome}")
        if isinstance(fact, e.ItemDecided):
            self.decisions.append(fact)  # whoever answered it has told so
            return None
        return None if isinstance(fact, _UNTOLD) else Told(*say(fact, agent))

    def _sent(self, fact: e.MessageSent, _: str) -> Told:
        self.messages += 1
        agent = self._agents[fact.dispatch] = one_line(fact.agent)
        data = fact.envelope["data"]
        asked = _ASKED.get(fact.envelope["type"])
        what = self.at_work[agent] = _brief(asked(data) if asked else fact.envelope["type"])
        return Told("workflow", f"asks {agent}: {what}")

    def _received(self, fact: e.MessageReceived, agent: str) -> Told:
        self.messages += 1
        self.at_work.pop(agent, None)
        answered = _ANSWERED.get(fact.envelope["type"])
        return Told(agent, _brief(answered(fact.envelope["data"])) if answered else f"answers: {fact.envelope['type']}")

    def _failed(self, fact: e.DispatchFailed, agent: str) -> Told:
        self.at_work.pop(agent, None)
        return Told(agent, f"failed: {_brief(fact.error['message'])}")

    def _called(self, fact: e.ModelCalled, agent: str) -> Told:
        self.steps += 1
        who, what, cost = say(fact, agent)
        return Told(who, what, cost) if fact.error is None else Told(who, f"model {fact.model}: {_brief(fact.error['message'])}", cost)

    def _done(self, fact: e.EffectEnded, agent: str) -> Told:
        self.steps += 1
        who, what, cost = say(fact, agent)
        if not fact.ok:
            what = f"{fact.tool} failed: {_brief(fact.value['message'])}"
        elif fact.cut:
            return Told(who, what, cost)
        elif fact.tool == "run_tests":
            self.sandbox = fact.value["sandbox"] or self.sandbox
            what = _brief(_tests(fact.value))
        elif fact.tool == "read_file":
            what = _brief(f"reads {fact.value['path']}")
        return Told(who, what, cost)


Tell = Callable[[Narration, Any, str], Told]

_TELL: dict[type[e.Fact], Tell] = {
    e.MessageSent: Narration._sent,
    e.MessageReceived: Narration._received,
    e.DispatchFailed: Narration._failed,
    e.ModelCalled: Narration._called,
    e.EffectEnded: Narration._done,
}


def diffstat(diffs: Sequence[str]) -> list[str]:
    """A line per file that the diffs change: lines added and removed."""
    counts: dict[str, tuple[int, int]] = {}
    for each in (file for diff in diffs for file in parse(diff)):
        added, removed = counts.get(each.path, (0, 0))
        added += sum(hunk.count("+") for hunk in each.hunks)
        counts[each.path] = (added, removed + sum(hunk.count("-") for hunk in each.hunks))
    return [f"{one_line(path)}  +{added} -{removed}" for path, (added, removed) in sorted(counts.items())]


def _brief(text: str) -> str:
    """The text on one line, and not all of a long one."""
    shown = one_line(text)
    return shown if len(shown) <= _WORDS else f"{shown[: _WORDS - 1]}…"


def _tests(run: Mapping[str, Any]) -> str:
    if not run["applied"]:
        return run["problem"] or "the diff does not apply"
    if run["problem"]:
        return f"tests not run: {run['problem']}"
    verdict = "passed" if run["passed"] else "failed"
    last = next((line for line in reversed(run["output"].splitlines()) if line.strip()), "")
    return f"tests {verdict} in {run['sandbox']} after {run['seconds']:.2f} s: {last}"


def _diff(reply: Mapping[str, Any]) -> str:
    try:
        changed = ", ".join(diffstat([reply["diff"]]))
    except PatchFailed:
        changed = "one that cannot be read"
    return f"answers with a diff ({changed}): {reply['summary']}"


_ASKED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "base.request": lambda data: f"where does work for {data['branch']} begin?",
    "planning.request": lambda data: f"plan {data['goal']}",
    "coding.request": lambda data: f"round {data['round']} of {data['subtask']['title']}",
    "review.request": lambda data: f"judge the diff for {data['subtask']['title']}",
    "deploy.request": lambda data: f"commit to {data['branch']}",
}
_ANSWERED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "base.reply": lambda data: f"at {data['commit'][:12]}",
    "planning.reply": lambda data: "plans: " + "; ".join(subtask["title"] for subtask in data["subtasks"]),
    "coding.reply": _diff,
    "review.reply": lambda data: ("approves: " if data["approved"] else "rejects: ") + data["comments"],
    "deploy.reply": lambda data: f"committed {data['commit'][:12]} to {data['branch']}",
}
