"""The delivery team at work on real repositories, on a bus in one process, with a scripted model: whatever the models say, only what
was tested and approved is committed, once, and the owner's work is never touched."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interlock import LocalBus, Outcome, Task
from interlock.actors.team.contracts import DeliveryRequest
from interlock.delivery import make_app
from interlock.delivery_example import GOAL, diff, make_repository, playbook
from interlock.schemas import entries as e
from interlock.settings import ModelSettings
from interlock.testing.scripted_model import ScriptedModel
from interlock.tools.git import environment

BRANCH = "interlock/staging"
LICENCE = "--- /dev/null\n+++ b/LICENCE\n@@ -0,0 +1 @@\n+Do what you like.\n"

Decide = Callable[[e.ItemAsked], tuple[bool, str]]


class Ended(NamedTuple):
    """A task that has ended: its facts, and how often a model was asked."""

    task: Task[Any]
    outcome: Outcome
    facts: list[e.Fact]
    model_calls: int

    def of(self, kind: type[e.Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def sent(self, contract: str) -> list[dict[str, Any]]:
        return [fact.envelope["data"] for fact in self.of(e.MessageSent) if fact.envelope["type"] == contract]

    @property
    def end(self) -> e.TaskEnded:
        return self.of(e.TaskEnded)[0]


def yes(item: e.ItemAsked) -> tuple[bool, str]:
    return True, ""


def no(item: e.ItemAsked) -> tuple[bool, str]:
    return False, "not now"


def only_acts(item: e.ItemAsked) -> tuple[bool, str]:
    return item.kind == "approval", ""


@contextmanager
def team(book: dict[str, Any], folder: Path | None = None) -> Iterator[Callable[..., Ended]]:
    """A bus with the team; call what it yields to deliver."""
    with ScriptedModel.start(book) as model:
        app = make_app(unsafe=True)
        with LocalBus(app, model=ModelSettings(base_url=model.base_url, model="scripted-1"), folder=folder) as bus:

            def deliver(path: Path, decide: Decide = yes, **request: Any) -> Ended:
                before = model.count
                asked = DeliveryRequest(**{"repository": str(path), "goal": GOAL, **request})
                task = bus.submit(app.workflows["software_delivery"], asked)
                facts = []
                for event in task.events():
                    facts.append(event.fact)
                    if isinstance(event.fact, e.ItemAsked):
                        approve, note = decide(event.fact)
                        (bus.inbox.approve if approve else bus.inbox.deny)(event.fact.item, note)
                assert bus.verify() > 0
                return Ended(task, task.outcome(), facts, model.count - before)

            yield deliver


def script(plan: list[str], diffs: dict[tuple[str, int], str], *, runs_tests: bool = True, approves: Any = None) -> dict[str, Any]:
    """A playbook: planning's subtasks, coding's diff per subtask and round, and a review that is honest or says what it is told to."""
    subtasks = [{"title": title, "description": "Do it."} for title in plan]
    rules: list[dict[str, Any]] = [{"agent": "the agent planning\\.", "answer": {"json": {"subtasks": subtasks}}}]
    for (title, number), text in diffs.items():
        rules.append(
            {
                "agent": "the agent coding\\.",
                "user_json": {"/subtask/title": title, "/round": number},
                "answer": {"json": {"diff": text, "summary": f"{title}, round {number}"}, "verbatim": True},
            }
        )
    review = {"agent": "the agent review\\."}
    if runs_tests:
        rules.append({**review, "tool_results": 0, "answer": {"tool_calls": [{"name": "run_tests", "arguments": {}}]}})
    if approves is None:
        rules.append({**review, "tool_result": '"passed":true', "answer": {"json": {"approved": True, "comments": "Good."}}})
    rules.append({**review, "answer": {"json": {"approved": bool(approves), "comments": "I looked at it."}}})
    return {"rules": rules}


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repository, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def fingerprint(repository: Path) -> str:
    """Of the working tree, the index, HEAD and every branch but ours."""
    seen = hashlib.sha256()
    for path in sorted(repository.rglob("*")):
        inside = path.relative_to(repository)
        if inside.parts[0] != ".git":
            seen.update(f"{inside} {path.lstat().st_mode} {path.lstat().st_mtime_ns}".encode())
            seen.update(path.read_bytes() if path.is_file() else b"")
    seen.update((repository / ".git" / "index").read_bytes())
    branches = [line for line in git(repository, "for-each-ref").splitlines() if not line.endswith(BRANCH)]
    return f"{seen.hexdigest()} {(repository / '.git' / 'HEAD').read_text()} {branches}"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "splitbill"
    make_repository(path)
    (path / "splitbill" / "money.py").write_text("# its owner is in the middle of something\n")
    (path / "notes.txt").write_text("untracked\n")
    return path


def is_untouched(repository: Path, ended: Ended, before: str) -> bool:
    """Nothing was committed and nothing else has changed either."""
    return not ended.of(e.EffectIntended) and not git(repository, "branch", "--list", BRANCH) and fingerprint(repository) == before


def test_rejected_then_approved(repository: Path, tmp_path: Path) -> None:
    before = fingerprint(repository)
    with team(playbook(), tmp_path / "bus") as deliver:
        ended = deliver(repository)
        result = ended.task.result()
    assert (ended.outcome, ended.model_calls) == (Outcome.SUCCESS, 11)
    first, second = ended.sent("coding.request")
    assert first["earlier"] is None
    assert (second["round"], second["earlier"]["diff"]) == (2, diff("wrong"))
    assert "test_equal_weights_differ_by_one_cent_at_most" in second["earlier"]["tests"]
    assert second["earlier"]["comments"].startswith("The tests do not pass")
    assert result.commit == git(repository, "rev-parse", BRANCH)
    assert git(repository, "rev-parse", f"{BRANCH}^") == git(repository, "rev-parse", "main")
    assert git(repository, "diff", "main", BRANCH, "--", "splitbill").splitlines()[2:] == diff("right").rstrip().splitlines()[2:]
    assert fingerprint(repository) == before


def test_three_rejections_end_in_a_question(tmp_path: Path) -> None:
    repository = tmp_path / "splitbill"
    make_repository(repository, extra_failing_test=True)
    before = fingerprint(repository)
    with team(playbook()) as deliver:
        ended = deliver(repository, only_acts)
    (question,) = ended.of(e.ItemAsked)
    assert question.kind == "question"
    assert "was approved in 3 rounds" in question.text
    assert "test_thousands_may_be_separated" in question.details["tests"]
    assert (ended.outcome, ended.end.error["code"]) == (Outcome.FAILED, "not_approved")
    assert "said not to go on" in ended.end.reason
    assert is_untouched(repository, ended, before)


def test_a_person_s_note_reaches_the_next_round(repository: Path) -> None:
    rounds = {("split", number): diff("wrong") for number in (1, 2, 3)} | {("split", 4): diff("right")}

    def decide(item: e.ItemAsked) -> tuple[bool, str]:
        return True, "Give the cents to those who lost most." if item.kind == "question" else ""

    with team(script(["split"], rounds)) as deliver:
        ended = deliver(repository, decide)
    assert ended.outcome is Outcome.SUCCESS
    told = [request["earlier"] for request in ended.sent("coding.request")]
    assert "Give the cents to those who lost most." in told[3]["comments"]
    assert [request["round"] for request in ended.sent("coding.request")] == [1, 2, 3, 4]


def test_a_denied_commit_is_not_made(repository: Path) -> None:
    before = fingerprint(repository)
    with team(script(["split"], {("split", 1): diff("right")})) as deliver:
        ended = deliver(repository, no)
    (asked,) = ended.of(e.ItemAsked)
    assert asked.kind == "approval"
    assert asked.details["arguments"]["diffs"] == [diff("right")]
    assert ended.outcome is Outcome.REJECTED
    assert is_untouched(repository, ended, before)


def test_a_diff_that_does_not_apply_goes_back_with_what_really_stands_there(repository: Path) -> None:
    astray = diff("right").replace("total = sum(weights)", "total = len(weights)")
    with team(script(["split"], {("split", 1): astray, ("split", 2): diff("right")})) as deliver:
        ended = deliver(repository)
    assert ended.outcome is Outcome.SUCCESS
    earlier = ended.sent("coding.request")[1]["earlier"]
    assert "The diff was not applied" in earlier["tests"]
    assert "total = sum(weights)" in earlier["tests"]


@pytest.mark.parametrize("runs_tests", [True, False], ids=["after a failed run", "without a run"])
def test_a_review_that_lies_is_not_believed(repository: Path, runs_tests: bool) -> None:
    before = fingerprint(repository)
    text = diff("wrong") if runs_tests else diff("right")
    book = script(["split"], {("split", number): text for number in (1, 2, 3)}, runs_tests=runs_tests, approves=True)
    with team(book) as deliver:
        ended = deliver(repository, only_acts)
    assert all(fact.envelope["data"]["approved"] for fact in ended.of(e.MessageReceived) if fact.envelope["type"] == "review.reply")
    assert (ended.outcome, ended.end.error["code"]) == (Outcome.FAILED, "not_approved")
    assert is_untouched(repository, ended, before)


def test_two_subtasks_stand_on_each_other(repository: Path) -> None:
    rounds = {("split", 1): diff("right"), ("licence", 1): LICENCE}
    with team(script(["split", "licence"], rounds)) as deliver:
        ended = deliver(repository)
    assert ended.outcome is Outcome.SUCCESS
    assert [request["accepted"] for request in ended.sent("review.request")] == [[], [diff("right")]]
    assert git(repository, "diff", "--name-only", "main", BRANCH).splitlines() == ["LICENCE", "splitbill/money.py"]
    assert git(repository, "rev-list", "--count", f"main..{BRANCH}") == "1"
    assert len(ended.of(e.EffectIntended)) == 1


def test_a_second_delivery_goes_on_where_the_first_one_stopped(repository: Path) -> None:
    book = script(["split"], {("split", 1): diff("right")})
    book["rules"].insert(
        0,
        {
            "agent": "the agent planning\\.",
            "user_json": {"/goal": "A licence"},
            "answer": {"json": {"subtasks": [{"title": "licence", "description": ""}]}},
        },
    )
    book["rules"].insert(
        1,
        {
            "agent": "the agent coding\\.",
            "user_json": {"/subtask/title": "licence"},
            "answer": {"json": {"diff": LICENCE, "summary": "One."}},
        },
    )
    with team(book) as deliver:
        first = deliver(repository)
        second = deliver(repository, goal="A licence")
    assert (first.outcome, second.outcome) == (Outcome.SUCCESS, Outcome.SUCCESS)
    assert git(repository, "rev-list", "--count", f"main..{BRANCH}") == "2"


def test_a_change_that_is_there_already_is_told_as_a_failure(repository: Path) -> None:
    """Deploy's own trouble ends the task with its sentence, not with a commit elsewhere."""
    with team(script(["split"], {("split", 1): diff("right")})) as deliver:

        def meanwhile(item: e.ItemAsked) -> tuple[bool, str]:
            tree = git(repository, "rev-parse", "main^{tree}")
            other = git(repository, "commit-tree", tree, "-p", "main", "-m", "somebody else's")
            git(repository, "branch", BRANCH, other)
            return True, ""

        ended = deliver(repository, meanwhile)
    assert ended.outcome is Outcome.FAILED
    assert "nothing was committed" in ended.end.reason
    assert git(repository, "rev-list", "--count", f"main..{BRANCH}") == "1"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [({"repository": "/nonexistent"}, "is not a git repository"), ({"branch": "main"}, "is checked out")],
    ids=["no repository", "a branch in use"],
)
def test_what_cannot_be_worked_on_costs_nothing(repository: Path, request_: dict[str, str], reason: str) -> None:
    with team(playbook()) as deliver:
        ended = deliver(repository, yes, **request_)
    assert (ended.outcome, ended.model_calls) == (Outcome.FAILED, 0)
    assert reason in ended.end.reason
