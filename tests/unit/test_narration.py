"""A delivery is told in short lines, and nothing that a model wrote can hide in them."""

from typing import Any

import pytest

from interlock.cli.narration import Narration, Told, diffstat
from interlock.schemas import entries as e
from interlock.schemas.errors import NoSandbox

HOSTILE = "\x1b[2J\u202emoc.live\nSecond line"
SHOWN = "\\u001b[2J\\u202emoc.live Second line"


def sent(contract: str, agent: str, **data: Any) -> e.MessageSent:
    return e.MessageSent(1, "dsp_1", "1-1", agent, [], "trusted", {"type": contract, "data": data})


def received(contract: str, **data: Any) -> e.MessageReceived:
    return e.MessageReceived(1, "dsp_1", "1-1", "r", False, "trusted", {"type": contract, "data": data})


def ended(tool: str, value: Any, ok: bool = True, cut: bool = False) -> e.EffectEnded:
    return e.EffectEnded("eff_1", "dsp_1", "1-1", tool, ok, value, 12.0, cut)


def what(*facts: e.Fact) -> str:
    """What is told of the last of these."""
    narration = Narration()
    told = [narration.take(fact) for fact in facts][-1]
    assert told is not None
    return told.what


ASKED = sent("coding.request", "coding", round=2, subtask={"title": HOSTILE})
RUN = {"applied": True, "passed": True, "problem": "", "sandbox": "box", "seconds": 0.5, "output": "Ran 3 tests\n\nOK\n"}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ([ASKED], f"asks coding: round 2 of {SHOWN}"),
        ([sent("pricing.request", "pricing")], "asks pricing: pricing.request"),
        ([ASKED, received("review.reply", approved=False, comments=HOSTILE)], f"rejects: {SHOWN}"),
        ([ASKED, received("coding.reply", diff="no diff", summary="s")], "answers with a diff (one that cannot be read): s"),
        ([ASKED, received("pricing.reply")], "answers: pricing.reply"),
        ([ASKED, ended("run_tests", RUN)], "tests passed in box after 0.50 s: OK"),
        ([ASKED, ended("run_tests", {**RUN, "passed": False, "output": ""})], "tests failed in box after 0.50 s:"),
        ([ASKED, ended("run_tests", {**RUN, "applied": False, "problem": HOSTILE})], SHOWN),
        ([ASKED, ended("run_tests", {**RUN, "problem": "no way"})], "tests not run: no way"),
        ([ASKED, ended("run_tests", {"cut": True}, cut=True)], "tool run_tests done (result cut)"),
        ([ASKED, ended("read_file", {"path": HOSTILE})], f"reads {SHOWN}"),
        ([ASKED, ended("list_files", {"paths": []})], "tool list_files done"),
    ],
)
def test_what_is_told(facts: list[e.Fact], line: str) -> None:
    assert what(*facts) == line


def test_a_failed_tool_says_why() -> None:
    error = NoSandbox(problem="none").to_wire()
    assert what(ASKED, ended("run_tests", error, ok=False)).startswith("run_tests failed: Code that a model wrote needs a sandbox")


def test_a_long_text_is_shortened() -> None:
    told = what(ASKED, received("review.reply", approved=True, comments="x" * 1000))
    assert len(told) == 160
    assert told.endswith("…")


def test_who_works_on_what() -> None:
    narration = Narration()
    assert narration.take(ASKED) == Told("workflow", f"asks coding: round 2 of {SHOWN}")
    assert narration.at_work == {"coding": f"round 2 of {SHOWN}"}
    narration.take(ended("run_tests", RUN))
    narration.take(received("coding.reply", diff="", summary=""))
    assert narration.at_work == {}
    assert (narration.messages, narration.steps, narration.sandbox) == (2, 1, "box")


def test_diffstat_sums_over_diffs() -> None:
    one = "--- a/x.py\n+++ b/x.py\n@@ -1 +1,2 @@\n-a\n+b\n+c\n"
    two = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-b\n+d\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+e\n"
    assert diffstat([one, two]) == ["new.py  +1 -0", "x.py  +3 -2"]


EVIL = "\x1b]0;owned\x07\u202e"
PLAIN = "\\u001b]0;owned\\u0007\\u202e"


@pytest.mark.parametrize(
    "fact",
    [
        e.ModelCalled("eff_1", "dsp_1", "1-1", EVIL, EVIL, "", "", None, None, {"input_tokens": 1, "output_tokens": 1}, None, 1.0, 1),
        sent(EVIL, EVIL),
        received(EVIL),
        ended(EVIL, 7),
        ended(EVIL, {"message": EVIL}, ok=False),
        e.DispatchFailed(1, "dsp_1", "1-1", {"message": EVIL}),
    ],
)
def test_no_line_and_no_name_hides_anything(fact: e.Fact) -> None:
    narration = Narration()
    narration.take(sent("x", EVIL))
    told = narration.take(fact)
    assert told is not None
    shown = "".join([*told, *narration.at_work, *narration.at_work.values()])
    assert PLAIN in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
