"""Fallback models: who is asked in the place of a model that finally gave no answer.

Each is asked as if it were the only one: by its own name, under its own bound, price and reservation, as an effect of its own. So the
record has each call with why it failed, and another attempt of the dispatch hears the same of each and comes to the same model. Only
`ModelFailed` leads on: what the budget refuses, and what an endpoint refuses for good, no other model makes right.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from interlock.schemas.errors import ModelFailed

Complete = Callable[[str, dict[str, Any], str], Awaitable[dict[str, Any]]]
"""Makes one call: model, request, and the model in whose place it is asked (empty: none)."""


class Models:
    """Those of one dispatch. Whoever answered is asked first the next time: a conversation stays with who carries it on."""

    def __init__(self, fallback: tuple[str, ...]) -> None:
        self._fallback = fallback
        self._answers = 0

    async def complete(self, model: str, request: dict[str, Any], call: Complete) -> dict[str, Any]:
        """The first answer, of whoever gives one; each is asked once at most. Raises `ModelFailed` that names all where none does."""
        models = (model, *self._fallback)
        failures: list[ModelFailed] = []
        for turn in range(len(models)):
            at = (self._answers + turn) % len(models)
            try:
                answer = await call(models[at], {**request, "model": models[at]}, models[at - 1] if turn else "")
            except ModelFailed as failed:
                failures.append(failed)
            else:
                self._answers = at
                return answer
        raise _together(failures)


def _together(failures: list[ModelFailed]) -> ModelFailed:
    """The last failure, which also says what came of the models before."""
    *before, last = failures
    if not before:
        return last
    others = "; ".join(f"{one.facts['model']} before it: {one.facts['problem']}" for one in before)
    return ModelFailed(**{**last.facts, "problem": f"{last.facts['problem']} ({others})"})
