"""What a person sees of an act is all of it, or says what is missing; it cannot forge a terminal's output."""

import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.specs import ToolSpec
from interlock.tools.approval import approval_digest, describe_act, visible

MERGE = ToolSpec("merge", "Merge a branch.", {}, {}, "irreversible", system="git")


def test_an_act_is_described_with_every_argument() -> None:
    text = describe_act(MERGE, {"branch": "fix-1", "force": False, "labels": ["a", "b"]})
    assert text == 'merge (irreversible on git): Merge a branch.\n  branch = "fix-1"\n  force = false\n  labels = ["a", "b"]'


def test_an_argument_cannot_forge_a_line_or_hide_text() -> None:
    text = describe_act(MERGE, {"branch": "x\n  force = false\x1b[2K\u202eevil\u200b", "a\rb": 1})
    assert text.splitlines()[1:] == ['  branch = "x\\n  force = false\\u001b[2K\\u202eevil\\u200b"', "  a\\u000db = 1"]


def test_all_of_an_act_is_shown() -> None:
    text = describe_act(MERGE, {f"argument{number}": "x" * 9_000 + "end" for number in range(100)})
    assert text.count('end"') == 100


def test_what_is_shown_apart_is_counted() -> None:
    text = describe_act(MERGE, {"branch": "b", "diffs": ["+x\n" * 500]}, apart=("diffs",))
    assert text.splitlines()[1:] == ['  branch = "b"', "  diffs = (2,004 characters, shown on their own)"]


def test_what_is_cut_says_by_how_much() -> None:
    assert visible("x" * 15, 10) == "xxxxxxxxxx… (5 more characters)"
    assert visible("x" * 10, 10) == "x" * 10


@given(st.text(max_size=600))
def test_nothing_shown_moves_hides_or_reorders(text: str) -> None:
    shown = visible(text, 400)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]
    assert shown.isprintable() or " " in shown or any(unicodedata.category(char) == "Zs" for char in shown)


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8"))


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), scalars), st.dictionaries(st.text(st.characters(codec="utf-8")), scalars))
def test_an_approval_is_bound_to_exactly_one_act(one: dict[str, Any], other: dict[str, Any]) -> None:
    bound = approval_digest("eff_1", "merge", one)
    assert bound == approval_digest("eff_1", "merge", dict(reversed(one.items())))
    assert bound != approval_digest("eff_2", "merge", one)
    assert bound != approval_digest("eff_1", "push", one)
    same = one.keys() == other.keys() and all(type(one[key]) is type(other[key]) and one[key] == other[key] for key in one)
    assert (bound == approval_digest("eff_1", "merge", other)) is same
