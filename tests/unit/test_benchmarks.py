"""What a run of the benchmarks publishes, and that it says so where a mark is missed."""

from typing import Any

import pytest

from benchmarks.figures import missed, published


def measured(plain: float, hops: float, *, plain_ms: float = 1.0, hop_ms: float = 4.0) -> dict[str, Any]:
    rates = {"1": hops / 10, "1000": hops}
    return {"plain_calls_per_s": plain, "hops_per_s": hops, "plain_call_ms": plain_ms, "hop_ms": hop_ms, "hops_per_s_by_tasks": rates}


def test_one_disturbed_round_moves_no_figure() -> None:
    rounds = [measured(1000, 2500), measured(10, 1, plain_ms=90, hop_ms=900), measured(1000, 2500)]
    results = published(rounds)
    assert (results["plain_calls_per_s"], results["hops_per_s"], results["plain_call_ms"], results["hop_ms"]) == (1000, 2500, 1.0, 4.0)
    assert (results["rate_ratio"], results["latency_ratio"]) == (2.5, 4.0)
    assert results["hops_per_s_by_tasks"] == {"1": 250, "1000": 2500}


def test_the_rounds_are_published_with_ratios_of_their_own() -> None:
    rounds = [measured(1000, 2000), measured(500, 2000)]
    assert published(rounds)["rounds"] == [
        {**rounds[0], "rate_ratio": 2.0, "latency_ratio": 4.0},
        {**rounds[1], "rate_ratio": 4.0, "latency_ratio": 4.0},
    ]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"rate_ratio": 2.0, "latency_ratio": 6.0}, []),
        ({"rate_ratio": 1.996, "latency_ratio": 5.0}, ["rate_ratio is 1.996; its mark is at least 2.0."]),
        (
            {"rate_ratio": 1.5, "latency_ratio": 6.5},
            ["rate_ratio is 1.500; its mark is at least 2.0.", "latency_ratio is 6.500; its mark is at most 6.0."],
        ),
    ],
)
def test_a_mark_that_is_missed_is_named(results: dict[str, float], said: list[str]) -> None:
    assert missed(results) == said
