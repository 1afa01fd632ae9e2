"""Whose word counts in a delivery: the record's, never a model's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.actors.team.contracts import Delivered, DeliveryReply, DeliveryRequest, ReviewReply, change_of
from interlock.cluster.code import code_of
from interlock.delivery import Accepted, _commit_text, _judge, committed_as_tested, make_app, names_repository_and_goal
from interlock.schemas.errors import NoTestRun

CHANGE, OTHER = change_of("c0", ["d1"]), change_of("c0", ["d2"])


def run(change: str = CHANGE, passed: bool = True, **facts: Any) -> dict[str, Any]:
    value = {"change": change, "applied": True, "passed": passed, "problem": "", "command": "test", "output": "boom", "sandbox": "box"}
    return {"tool": "run_tests", "ok": True, "value": {**value, **facts}}


def commit(commit: str = "c1", change: str = CHANGE) -> dict[str, Any]:
    return {"tool": "commit_to_staging", "ok": True, "value": {"commit": commit, "change": change, "branch": "b"}}


FAILED = {"tool": "run_tests", "ok": False, "value": {"code": "no_sandbox", "message": "No sandbox works here."}}
YES, NO = ReviewReply(approved=True, comments="fine"), ReviewReply(approved=False, comments="not fine")


@given(st.lists(st.tuples(st.sampled_from([CHANGE, OTHER]), st.booleans())), st.booleans())
def test_approved_is_only_what_last_passed_and_was_found_good(runs: list[tuple[str, bool]], approved: bool) -> None:
    mine = [passed for change, passed in runs if change == CHANGE]
    evidence = [run(change, passed) for change, passed in runs]
    if runs and not mine:
        with pytest.raises(NoTestRun):
            _judge(ReviewReply(approved=approved, comments=""), evidence, CHANGE, "/r")
    else:
        verdict = _judge(ReviewReply(approved=approved, comments=""), evidence, CHANGE, "/r")
        assert verdict.approved == (approved and mine[-1:] == [True])


def test_what_the_next_round_is_told() -> None:
    assert _judge(YES, [run(passed=False)], CHANGE, "/r") == (False, "test\nboom", "fine", "box")
    assert _judge(YES, [run(passed=False, applied=False, problem="does not fit")], CHANGE, "/r").tests == "does not fit"
    assert _judge(NO, [run()], CHANGE, "/r") == (False, "All tests passed.", "not fine", "box")
    assert "ran no tests" in _judge(YES, [], CHANGE, "/r").tests


def test_tests_that_cannot_be_run_are_nobody_s_diff_s_fault() -> None:
    with pytest.raises(NoTestRun, match="/r could not be run: No sandbox works here"):
        _judge(YES, [FAILED], CHANGE, "/r")
    assert _judge(YES, [FAILED, run()], CHANGE, "/r").approved


def reply(*changes: str, commit: str = "c1") -> DeliveryReply:
    delivered = [Delivered(title="t", summary="s", round=1, change=change) for change in changes]
    return DeliveryReply(commit=commit, branch="b", base="c0", delivered=delivered, sandbox="box")


@pytest.mark.parametrize(
    ("result", "evidence", "holds"),
    [
        (reply(CHANGE), [run(), commit()], True),
        (reply(OTHER, CHANGE), [run(OTHER), run(), commit()], True),
        (reply(OTHER, CHANGE), [run(OTHER, passed=False), run(), commit()], False),
        (reply(OTHER, CHANGE), [run(), commit()], False),
        (reply(CHANGE), [run(), run(passed=False), commit()], False),
        (reply(CHANGE), [run(passed=False), run(), commit()], True),
        (reply(CHANGE), [run(), commit(change=OTHER)], False),
        (reply(CHANGE), [run(), commit("c2")], False),
        (reply(CHANGE), [run()], False),
        (reply(CHANGE), [], False),
    ],
)
def test_success_is_a_commit_of_what_was_tested(result: DeliveryReply, evidence: list[dict[str, Any]], holds: bool) -> None:
    assert committed_as_tested(result, evidence) is holds


def test_the_entry_condition() -> None:
    for repository, goal, holds in (("/r", "g", True), ("r", "g", False), ("/r", "  ", False)):
        assert names_repository_and_goal(DeliveryRequest(repository=repository, goal=goal)) is holds


@given(st.text(min_size=1, max_size=300).filter(str.strip))
def test_a_commit_message_has_a_short_first_line_and_all_of_the_goal(goal: str) -> None:
    text = _commit_text(goal, [Accepted("d", Delivered(title="t", summary="s", round=1, change="x"), "box")], "tsk_1")
    lines = text.split("\n")
    assert 0 < len(lines[0]) <= 72
    assert " ".join(goal.split()) in text
    assert lines[-1] == "Task: tsk_1"
    assert "- t: s" in lines


def test_the_app_travels_to_a_worker() -> None:
    """As a bus on Ray sends it: everything that a replica needs is in it, and whether tests may run without a sandbox."""
    for unsafe in (True, False):
        app = code_of(make_app(unsafe=unsafe)).load()
        assert app.spec() == make_app().spec()
        resources = app.agents["review"].resources
        assert resources is not None
        assert resources() == {"unsafe": unsafe}
