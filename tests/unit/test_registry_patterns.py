"""Patterns are languages: what is read of one is what the validators find, and what is searched for is there or is not."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interlock.schemas.registry.proof.pattern import Unreadable, language
from interlock.schemas.registry.proof.texts import TooLarge, find
from interlock.schemas.registry.replay import validator

atoms = st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", "[a-c1]", r"\d", r"\w", r"\s", r"\.", r"\u0061", "é", "(?:a|b1)", "(a|)"])
pieces = st.builds("{}{}".format, atoms, st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"]))
runs = st.lists(pieces, min_size=0, max_size=3).map("".join)
patterns = st.builds(
    "{}{}{}".format, st.sampled_from(["", "^"]), st.one_of(runs, st.builds("({}|{})".format, runs, runs)), st.sampled_from(["", "$"])
)
texts = st.text(alphabet="ab1.é \n", max_size=5)


def found(pattern: str, text: str) -> bool:
    return validator({"pattern": pattern}, 2020).is_valid(text)


def search(*wanted: str, unwanted: tuple[str, ...] = (), least: int = 0, most: int | None = None) -> str | None:
    return find(list(wanted), list(unwanted), [], (least, most), lambda: None)


@settings(max_examples=300)
@given(patterns, texts)
def test_a_pattern_means_what_the_validators_find(pattern: str, text: str) -> None:
    exactly = "^" + "".join(rf"\u{ord(char):04x}" for char in text) + "$"
    assert (search(exactly, pattern) == text) is found(pattern, text)


@settings(max_examples=150)
@given(patterns, patterns, st.lists(texts, max_size=20))
def test_what_one_pattern_finds_and_the_other_does_not(one: str, other: str, likely: list[str]) -> None:
    text = search(one, unwanted=(other,))
    if text is None:
        assert not [example for example in likely if found(one, example) and not found(other, example)]
    else:
        for pattern in (one, other):
            assume(found(pattern, text) is bool(re.search(pattern, text)))  # the validators take a+a*a+ to find "a"
        assert found(one, text)
        assert not found(other, text)


def test_lengths_and_texts_that_are_ruled_out_count() -> None:
    assert search("^a*$", least=3, most=3) == "aaa"
    assert search("^(ab)*$", least=3, most=3) is None
    assert find(["^[ab]$"], [], ["a", "b"], (0, None), lambda: None) is None
    assert find(["^[ab]$"], [], ["a"], (0, None), lambda: None) == "b"
    assert search("a") == "a"


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=a)b",
        r"(a)\1",
        r"\bword",
        r"\p{L}",
        "(?i)a",
        "^(^a)",
        "(a$)*",
        "[[a]]",
        "a{5000}",
        "(?<n>a)",
        "[a&&b]",
        "(" * 60 + ")" * 60,
        r"\<",
        r"[\>]",
        r"\@",
        "$^",
    ],
)
def test_what_cannot_be_reasoned_about_is_refused(pattern: str) -> None:
    with pytest.raises(Unreadable):
        language(pattern)


def test_a_search_that_needs_too_much_is_given_up() -> None:
    with pytest.raises(TooLarge):
        search("^[ab]*a[ab]{14}$", unwanted=("^[ab]*b[ab]{13}a$", "^[ab]*bb[ab]{12}$"), least=40)
