"""Chance against the laws: everything goes wrong at any moment, and the laws hold; what a seed does is the same in every process."""

from collections.abc import Iterator

import pytest
from mutants import MUTANTS
from storming import CAUGHT_WITHIN, Workers, plant, play_all, quiet, summary

pytestmark = pytest.mark.timeout(600)

SEEDS, SHARE = 2000, 50
AGAIN = 50
"""Storms that are played twice more, by processes that hash differently and play no others."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_the_laws_hold_in_every_storm(first: int) -> None:
    told = play_all(range(first, first + SHARE))
    outcomes = told["outcomes"]
    assert not told["failed"], summary(told)
    # Where everything fails nothing is shown: most succeed, and whoever is killed or costs too much ends so.
    assert outcomes["success"] > 0.5 * outcomes.total(), outcomes
    assert outcomes["killed"], outcomes
    assert outcomes["budget_exceeded"], outcomes


def test_a_seed_is_the_same_storm_in_every_process() -> None:
    workers = [Workers(str(AGAIN), count=1, PYTHONHASHSEED=hashing) for hashing in ("1", "2")]
    try:
        one, other = [process.told()["digests"] for process in workers]
    finally:
        for process in workers:
            process.end()
    assert len(one) == AGAIN
    assert one == other


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_bug_that_is_planted_is_caught(mutant: str) -> None:
    assert plant(mutant), f"no storm of {CAUGHT_WITHIN} breaks the law {MUTANTS[mutant][1]}"
