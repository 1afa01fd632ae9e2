"""From measured rounds to the figures that are published, and whether these reach the marks.

A machine that others use too is slow for a while and fast again. So a run measures in rounds, each with plain calls and hops, and
publishes the median over the rounds: what disturbs one of them moves no figure. The rounds themselves are published beside it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """What a ratio must reach."""

    side: str
    bound: float

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.side == "at least" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.side} {self.bound}"


_BY_SIZE = "hops_per_s_by_tasks"
MARKS = {"rate_ratio": Mark("at least", 2.0), "latency_ratio": Mark("at most", 6.0)}


def published(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The medians over the rounds, the two ratios of these medians, and the rounds."""
    figures: dict[str, Any] = {
        name: statistics.median(one[name] for one in rounds) for name, value in rounds[0].items() if name != _BY_SIZE
    }
    figures[_BY_SIZE] = {size: statistics.median(one[_BY_SIZE][size] for one in rounds) for size in rounds[0][_BY_SIZE]}
    return {**figures, **ratios(figures), "rounds": [{**one, **ratios(one)} for one in rounds]}


def ratios(figures: Mapping[str, Any]) -> dict[str, float]:
    """Hops against plain calls: their rate, and the latency of one alone."""
    return {
        "rate_ratio": figures["hops_per_s"] / figures["plain_calls_per_s"],
        "latency_ratio": figures["hop_ms"] / figures["plain_call_ms"],
    }


def missed(results: Mapping[str, Any]) -> list[str]:
    """One sentence for each mark that is not reached."""
    return [f"{name} is {results[name]:.3f}; its mark is {mark}." for name, mark in MARKS.items() if not mark.reached(results[name])]
