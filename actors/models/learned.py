"""A learned bound on what goes into a model call, for workflows that ask for it: fewer tokens held, by what was seen before.

The bytes of a request are a bound that always holds and is about four times what is used. This one is the densest call that the endpoint
has reported of the model so far, and a margin. It is soft by one call (of each branch that calls at the same time): one that is denser than
all before it uses more than was held for it, which is charged and recorded, and the limit ends the task with its next call.
"""

from math import ceil

CALLS_AT_LEAST = 3
"""Before so many calls of a model were seen its bytes are the bound."""
MARGIN = 1.25


class Learned:
    """Per model how many tokens a byte came to at the most. A gateway learns anew when it starts."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def note(self, model: str, size: int, tokens: int) -> None:
        """A request of `size` bytes was reported as so many tokens."""
        calls, most = self._seen.get(model, (0, 0.0))
        self._seen[model] = calls + 1, max(most, tokens / size)

    def bound(self, model: str, size: int) -> int:
        """What a request of `size` bytes is taken for."""
        calls, most = self._seen.get(model, (0, 0.0))
        return size if calls < CALLS_AT_LEAST else min(size, ceil(size * most * MARGIN))
