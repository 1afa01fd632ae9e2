"""The supervisor's Ray front at its edges: one bad call harms no other, and who is gone is not introduced."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from interlock.cluster.ports import RayBudgets, budget_call
from interlock.cluster.supervisor import SupervisorActor
from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.errors import Fenced, InterlockError
from interlock.schemas.ports import Grant, PeerGone, Reservation
from interlock.testing.virtual_time import run


class Budgets:
    """Carries out what is asked of it, but for the task `bad`, over which it stumbles."""

    async def open(self, task: str, limits: Amounts, accepted: int) -> None:
        if task == "bad":
            raise ZeroDivisionError("no such amount")
        raise Fenced(task=task, why="a kill")

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        return [Grant(one.id, 3, Fenced(task=one.task, why="a kill") if one.task == "fenced" else None) for one in reservations]

    async def settle(self, id: str, actual: Amounts) -> None:
        pass

    async def close(self, task: str) -> None:
        pass

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        return {"tokens": (1, 2, 3)}


class Method:
    """The `budgets` of the supervisor's actor, without Ray in between."""

    async def remote(self, calls: list[tuple[Any, ...]]) -> tuple[bool, Any]:
        return True, list(await asyncio.gather(*(budget_call(Budgets(), *call) for call in calls)))


class Supervisor:
    budgets = Method()


def test_one_call_that_fails_in_a_batch_fails_alone_and_in_words() -> None:
    async def main() -> None:
        budgets = RayBudgets(Supervisor())
        reserving = budgets.reserve([Reservation("a", "tsk", {}, {}), Reservation("b", "fenced", {}, {})])
        bad, fenced, grants, used = await asyncio.gather(
            budgets.open("bad", {}, 0), budgets.open("tsk", {}, 0), reserving, budgets.used("tsk"), return_exceptions=True
        )
        assert isinstance(bad, InterlockError)
        assert str(bad) == "the supervisor failed at open: ZeroDivisionError: no such amount"
        assert isinstance(fenced, Fenced)
        assert isinstance(grants, list)
        assert [(grant.units, type(grant.error)) for grant in grants] == [(3, type(None)), (3, Fenced)]
        assert used == {"tokens": (1, 2, 3)}
        answer = await budget_call(Budgets(), "spend", "tsk")
        assert not answer[0], "a call that there is not is answered like any other"

    run(main())


@pytest.mark.parametrize("orchestrator", [None, PeerGone("creation task")])
def test_who_is_gone_before_it_was_introduced_is_lost_and_nothing_breaks(orchestrator: Exception | None) -> None:
    actor: Any = SupervisorActor
    front = object.__new__(actor.__ray_metadata__.modified_class)
    lost: list[str] = []

    def handle(incarnation: str) -> Any:
        if incarnation == "gone-1":
            raise PeerGone(incarnation)
        return object()

    def no_orchestrator() -> Any:
        raise orchestrator or ValueError("there is no actor of that name")

    front._handle, front._lose, front._orchestrator = handle, lambda name, why: lost.append(name), no_orchestrator
    run(front._introduce("gone", "gone-1"))
    run(front._introduce("there", "there-1"))
    assert lost == ["gone-1"]
