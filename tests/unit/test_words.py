"""Whatever an exception says, it can be told."""

import pytest

from interlock.schemas.canonical import encode
from interlock.schemas.words import clean, told, words_of


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("seven"), "ValueError: seven"),
        (ValueError("\udcff"), "ValueError: ?"),
        (KeyError("\ud800"), "KeyError: '\\ud800'"),
        (Mute(), "Mute: its words cannot be told: str() of it raised RuntimeError"),
    ],
)
def test_every_exception_can_be_told(error: Exception, text: str) -> None:
    assert told(error) == text
    encode(told(error))


def test_words_are_bounded() -> None:
    assert words_of(ValueError("x" * 9_000), 10) == "x" * 10
    assert clean("y" * 9_000) == "y" * 4_000
