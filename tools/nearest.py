"""The valid choice that comes nearest to a wrong one."""

import difflib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_READ_CHARS = 100


def nearest(given: object, choices: Sequence[T]) -> T:
    """The choice whose text is most like `given`'s, letter case aside; of equals the first. `choices` is not empty."""
    wanted = str(given)[:_READ_CHARS].lower()
    return max(choices, key=lambda choice: difflib.SequenceMatcher(None, wanted, str(choice).lower()).ratio())
