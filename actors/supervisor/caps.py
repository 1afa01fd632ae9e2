"""Caps: whether the worst case of a model call is known at all, before anything is held for it.

A limit is hard only where what is held is the most that can come. A model without a price has no most where money is limited, and an
endpoint that once answered with more than it was allowed has none where its answers are: the supervisor alone says no to both, so no
gateway has to be told, and no limit comes too late that is set while a call waits.
"""

from collections.abc import Container, Mapping
from typing import Any

from interlock.actors.supervisor.journal import Change
from interlock.schemas.budget import OUTPUT, TOKENS, USD
from interlock.schemas.errors import InterlockError, UnboundedCall, UnknownPrice


class Caps:
    """What is remembered of endpoints: per endpoint and model the first answer above its cap, and that cap."""

    def __init__(self) -> None:
        self._overruns: dict[tuple[str, str], tuple[int, int]] = {}

    def overran(self, endpoint: str, model: str, answered: int, allowed: int) -> list[Change]:
        """What to journal of an answer above its cap; nothing where one is remembered."""
        data = {"endpoint": endpoint, "model": model, "answered": answered, "allowed": allowed}
        return [] if (endpoint, model) in self._overruns else [Change("overrun", "", data)]

    def apply(self, data: Mapping[str, Any]) -> None:
        self._overruns[data["endpoint"], data["model"]] = (data["answered"], data["allowed"])

    def unbound(self, endpoint: str, model: str, asked: Container[str], limited: Container[str]) -> InterlockError | None:
        """Why no limit could hold for a call of which these meters are asked; none where all that are limited are bounded."""
        if USD in limited and USD not in asked:
            return UnknownPrice(model=model)
        overran = self._overruns.get((endpoint, model))
        meters = [meter for meter in (OUTPUT, TOKENS, USD) if meter in limited]
        if overran is None or not meters:
            return None
        return UnboundedCall(
            model=model,
            problem=f"{endpoint} answered with {overran[0]} tokens where {overran[1]} were allowed",
            remedy=f"use an endpoint that keeps to max_tokens, or leave {' and '.join(meters)} out of the budget.",
        )
