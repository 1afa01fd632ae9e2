"""The supervisor's Ray front at its edges: one bad call harms no other, and who is gone is not introduced."""

import asyncio
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import Change, MemoryJournal, Order, Row
from interlock.clock import SystemClock
from interlock.cluster.config import BusConfig
from interlock.cluster.gateway import gateway
from interlock.cluster.ports import RayBudgets, budget_calls
from interlock.cluster.supervisor import SupervisorActor
from interlock.schemas.canonical import encode
from interlock.schemas.errors import Fenced, InterlockError, StorePaused
from interlock.schemas.frames import CallModel
from interlock.schemas.ports import PeerGone, Reservation
from interlock.settings import ModelSettings
from interlock.testing.virtual_time import VirtualClock, run


class Method:
    """The `budgets` of the supervisor's actor, without Ray in between."""

    def __init__(self, budgets: SupervisorBudgets) -> None:
        self._budgets = budgets

    async def remote(self, calls: list[tuple[Any, ...]]) -> tuple[bool, Any]:
        return True, await budget_calls(self._budgets.together, calls)


class Supervisor:
    def __init__(self, budgets: SupervisorBudgets) -> None:
        self.budgets = Method(budgets)


def test_one_call_that_fails_in_a_batch_fails_alone_and_in_words() -> None:
    async def main() -> None:
        clock = VirtualClock()
        journal = MemoryJournal(clock)
        journal.append(Order("killed", "kill", "ann", "enough", 1).change())
        mine = SupervisorBudgets(journal, clock, lambda task, why: None)
        budgets, rows = RayBudgets(Supervisor(mine)), len(journal.store)
        limits: Any = {"tokens": 3}
        not_an_amount: Any = {"tokens": []}
        good, bad, fenced, grants, used = await asyncio.gather(
            budgets.open("tsk", limits, 0),
            budgets.open("bad", not_an_amount, 0),
            budgets.open("killed", limits, 0),
            budgets.reserve([Reservation("a", "tsk", {"tokens": 2}, {}), Reservation("b", "killed", {}, {})]),
            budgets.used("tsk"),
            return_exceptions=True,
        )
        assert good is None
        assert isinstance(bad, InterlockError)
        assert str(bad).startswith("the supervisor failed at open: TypeError: int() argument")
        assert isinstance(fenced, Fenced)
        assert isinstance(grants, list)
        assert [(grant.units, type(grant.error)) for grant in grants] == [(0, type(None)), (0, Fenced)]
        assert used == {"tokens": (0, 2, 3)}
        assert [(row.kind, row.task) for row in journal.store[rows:]] == [("open", "tsk"), ("reserve", "tsk")]
        ((ok, _),) = await budget_calls(mine.together, [("spend", "tsk")])
        assert not ok, "a call that there is not is answered like any other"

    run(main())


@pytest.mark.parametrize("orchestrator", [None, PeerGone("creation task")])
def test_who_is_gone_before_it_was_introduced_is_lost_and_nothing_breaks(orchestrator: Exception | None) -> None:
    front = object.__new__(class_of(SupervisorActor))
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


def test_a_journal_that_takes_nothing_ends_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next incarnation begins in the same one, and meanwhile everybody hears why there is none."""
    names = unwrap(class_of(SupervisorActor)._live).__globals__  # Ray, once it has run, has made the class anew, with names of its own
    monkeypatch.setitem(names, "WATCH_SECONDS", 0.001)
    monkeypatch.setitem(names, "begin", lambda name: None)
    monkeypatch.setattr(names["os"], "_exit", lambda code: None)
    clock, store, full = SystemClock(), list[Row](), ["no space left"]

    class Full(MemoryJournal):
        def _write(self, changes: list[Change]) -> None:
            if full:
                raise StorePaused(path="supervisor.db", problem=full[0])
            super()._write(changes)

    async def main() -> None:
        monkeypatch.setitem(names, "open_journal", lambda *_: Full(clock, store))
        monkeypatch.setattr(class_of(SupervisorActor), "_watch", lambda self: asyncio.sleep(0))
        front = class_of(SupervisorActor)(BusConfig("test", str(tmp_path), str(tmp_path), "", ModelSettings()))

        async def ask(method: str, *args: Any) -> Any:
            ok, value = await getattr(front, method)(*args)
            return value if ok else (value["code"], value["facts"]["problem"])

        async def come_to(state: str) -> None:
            while (await ask("status"))["journal"]["state"] != state:  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.001)

        paused = ("store_paused", "no space left")
        status = await ask("status")
        assert status["pools"] == {}
        assert (status["journal"]["state"], status["journal"]["problem"]) == ("stalled", "no space left")
        assert [await ask(*call) for call in (("ping",), ("peers",), ("kill", "tsk", "ann", "why"), ("scale", "a", 1))] == [paused] * 4
        full.clear()
        await come_to("ok")
        opened = [("open", "tsk", {"tokens": 3}, 0)]
        assert await ask("budgets", opened) == [[True, None]]
        full.append("no space left")
        assert await ask("budgets", [("reserve", [tuple(Reservation("a", "tsk", {"tokens": 2}, {}))])]) == paused
        await come_to("stalled")
        since = (await ask("status"))["journal"]["since"]
        await asyncio.sleep(0.01)
        assert (await ask("status"))["journal"]["since"] == since
        full.clear()
        await come_to("ok")
        ((_, used),) = await ask("budgets", [("used", "tsk")])
        assert used == {"tokens": (0, 0, 3)}, "what could not be kept was not held"
        for task in front._tasks:
            task.cancel()

    asyncio.run(main())


def test_who_asks_for_budgets_waits_for_the_journal_but_for_who_would_open_one() -> None:
    class Stalled:
        def __init__(self) -> None:
            self.times = 0

        async def remote(self, calls: list[tuple[Any, ...]]) -> tuple[bool, Any]:
            self.times += 1
            if self.times < 4:
                return False, StorePaused(path="supervisor.db", problem="no space left").to_wire()
            return True, [(True, [("a", 1, None)]) for _ in calls]

    class Purse:
        budgets = Stalled()

    async def main() -> None:
        budgets = RayBudgets(Purse())
        granted = asyncio.ensure_future(budgets.reserve([Reservation("a", "tsk", {}, {})]))
        with pytest.raises(StorePaused):
            await budgets.open("tsk", {}, 0)
        assert [grant.units for grant in await granted] == [1]

    run(main())
    assert Purse.budgets.times == 4


def class_of(actor: Any) -> Any:
    """What Ray makes actors of."""
    return actor.__ray_metadata__.modified_class


def test_two_gateways_never_hold_one_reservation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second of two that are asked for one call, after the first has died, pays for its own request."""
    asked: list[str] = []

    class Spending:
        async def remote(self, calls: list[tuple[Any, ...]]) -> tuple[bool, Any]:
            (name, reservations, *_) = calls[0]
            if name == "reserve":
                asked.extend(one[0] for one in reservations)
            if name == "leave":
                return True, [(True, None)]
            if name == "turn":
                return True, [(True, 0.0)]
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


@pytest.mark.parametrize("seen", [True, False])
def test_the_orchestrator_hears_that_a_peer_has_ended_once_that_is_seen(seen: bool) -> None:
    said: list[str] = []

    class Left:
        async def remote(self, name: str) -> list[Any]:
            said.append(f"{name} has ended")
            return [True, None]

    async def end(name: str) -> bool:
        said.append(f"{name} is to end")
        return seen

    async def main() -> None:
        front = object.__new__(class_of(SupervisorActor))
        front._tasks, front._handles, front._begun = set(), {}, asyncio.Event()
        front._begun.set()
        front._supervisor = SimpleNamespace(pools=SimpleNamespace(lost=lambda name, why: None))
        front._orchestrator, front._end = lambda: SimpleNamespace(left=Left()), end
        assert (await front.lost("doer-1", "it has not answered for 30 s"))[0]
        await asyncio.sleep(1)
        assert said == ["doer-1 is to end", *["doer-1 has ended"] * seen], "who hangs and cannot be ended may write yet"

    run(main())
