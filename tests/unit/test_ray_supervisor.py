"""The supervisor's Ray front at its edges: one bad call harms no other, and who is gone is not introduced."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from interlock.cluster.config import BusConfig
from interlock.cluster.gateway import gateway
from interlock.cluster.ports import RayBudgets, budget_call
from interlock.cluster.supervisor import SupervisorActor
from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.canonical import encode
from interlock.schemas.errors import Fenced, InterlockError
from interlock.schemas.frames import CallModel
from interlock.schemas.ports import Grant, PeerGone, Reservation
from interlock.settings import ModelSettings
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


def test_two_gateways_never_hold_one_reservation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second of two that are asked for one call, after the first has died, pays for its own request."""
    asked: list[str] = []

    class Spending:
        async def remote(self, calls: list[tuple[Any, ...]]) -> tuple[bool, Any]:
            (name, reservations) = calls[0]
            if name == "reserve":
                asked.extend(one[0] for one in reservations)
            return True, [(False, Fenced(task="tsk", why="that is all for this test").to_wire()) for _ in calls]

    class Purse:
        budgets = Spending()

    monkeypatch.setattr("interlock.actors.models.call.Call._known_price", _no_price)
    monkeypatch.setattr("interlock.cluster.gateway.ray.get_actor", lambda name, namespace: Purse())
    model = ModelSettings(base_url="http://127.0.0.1:9", model="scripted-1")
    config = BusConfig("test", str(tmp_path), str(tmp_path), "", model)
    request = encode({"model": "scripted-1", "messages": [{"role": "user", "content": "hello"}]})

    async def main() -> None:
        for incarnation in ("models-1", "models-2"):
            made = gateway(config, incarnation)
            made.take(CallModel("eff_1", "tsk", 1, "scripted-1", request, "", "dsp_1"))
            await asyncio.wait(list(made._running.values()))
            await made.close()

    asyncio.run(main())
    assert asked == ["eff_1#1@models-1", "eff_1#1@models-2"]


async def _no_price(call: Any) -> None:
    return None
