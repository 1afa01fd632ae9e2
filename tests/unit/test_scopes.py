"""Laws of scopes: what tasks share is never overrun, whatever interleaves; no crash and no compaction changes what is left."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Budget, Message, ToolContext, WorkflowContext
from interlock.actors.supervisor.compaction import COUNTERS, METERS
from interlock.actors.supervisor.journal import MemoryJournal, Row
from interlock.actors.supervisor.meters import Meters
from interlock.cli.cluster import _shared
from interlock.schemas import entries as e
from interlock.schemas.errors import BadDeclaration, BudgetExceeded, from_wire
from interlock.schemas.limits import asked_limits
from interlock.schemas.ports import Reservation
from interlock.testing.simulation import Simulation, simulate
from interlock.testing.virtual_time import VirtualClock

HOUR = 3_600_000_000
NOON = 1_795_435_200_000_000  # 2026-11-23T12:00Z
LIMITS = [
    ["bus", "", {"tokens": 300}],
    ["tenant:*", "day", {"tokens": 90}],
    ["tenant:acme", "day", {"tokens": 120, "usd": Decimal("0.50")}],
    ["type:bill", "hour", {"steps": 3}],
]


class Hands:
    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> int:
        return self.at


def begun(limits: Any = LIMITS) -> Meters:
    meters = Meters()
    meters.decide(meters.scopes.declared(limits))
    for task, type, tenant in (("tsk_a", "bill", "acme"), ("tsk_b", "bill", "acme"), ("tsk_c", "post", "other")):
        meters.open(task, {"tokens": 1000}, 1, 0, type, tenant)
    return meters


def asked(id: str, task: str, tokens: int, *, wanted: int = 0, steps: int = 0) -> Reservation:
    return Reservation(id, task, {"tokens": tokens, "steps": steps}, {"tokens": 1} if wanted else {}, wanted, 1 if wanted else 0)


def test_an_effect_is_held_in_all_its_scopes_or_in_none() -> None:
    meters = begun()
    assert meters.reserve(asked("e1", "tsk_a", 100, wanted=50), NOON)[0].units == 20
    grant, changes = meters.reserve(asked("e2", "tsk_b", 1), NOON)
    assert isinstance(grant.error, BudgetExceeded)
    assert changes == []
    assert (grant.error.scope, grant.error.limit, grant.error.reserved, grant.error.asked) == ("tenant:acme", "tokens", "120", "1")
    assert str(grant.error).startswith(
        "The limit of tenant:acme per day on tokens is reached: 120 allowed, 0 used, 120 reserved, 1 more asked"
    )
    assert "`interlock budget tenant:acme tokens=... --per day`" in str(grant.error)
    assert str(from_wire(grant.error.to_wire())) == str(grant.error)
    assert meters.reserve(asked("e3", "tsk_c", 80), NOON)[0].error is None
    # The next day has a limit of its own; the bus's is for ever.
    assert meters.reserve(asked("e4", "tsk_b", 100), NOON + 12 * HOUR)[0].error is None
    refused = meters.reserve(asked("e5", "tsk_c", 80), NOON + 12 * HOUR)[0].error
    assert refused is not None
    assert refused.scope == "bus"


def test_what_ends_late_is_charged_where_it_was_held() -> None:
    meters = begun()
    meters.reserve(asked("e1", "tsk_a", 100), NOON)
    meters.settle("e1", {"tokens": 60})
    day = next(row for row in meters.scopes.shown(NOON) if row["scope"] == "tenant:acme")
    assert day["meters"]["tokens"] == (60, 0, 120)
    (none,) = (row for row in meters.scopes.shown(NOON + 24 * HOUR) if row["scope"] == "tenant:acme")
    assert none["meters"]["tokens"] == (0, 0, 120)


def test_an_operators_word_goes_before_the_apps_and_outlives_its_next_deployment() -> None:
    meters = begun()
    meters.decide(meters.scopes.ordered("tenant:acme", "day", {"tokens": 5, "usd": None}, "ann", "too dear"))
    assert meters.scopes.declared(LIMITS) == []
    assert meters.decide(meters.scopes.declared([*LIMITS, ["bus", "day", {"steps": 9}]]))
    assert meters.scopes.limits("tenant:acme", "day") == {"tokens": 5}
    assert meters.scopes.limits("tenant:any", "day") == {"tokens": 90}
    assert meters.limited("tsk_a") == ["steps", "tokens"]
    assert meters.limited("tsk_none") == []


def test_who_ends_with_an_effect_under_way_holds_it_until_it_has_ended() -> None:
    meters = begun()
    meters.reserve(asked("e1", "tsk_a", 100), NOON)
    meters.close("tsk_a", 0)
    assert (meters.owing(), meters.forgotten) == (["tsk_a"], [])
    assert meters.reserve(asked("e2", "tsk_b", 30), NOON)[0].error is not None
    meters.settle("e1", {"tokens": 10})
    assert (meters.owing(), meters.forgotten) == ([], ["tsk_a"])
    assert meters.reserve(asked("e2", "tsk_b", 30), NOON)[0].error is None


def test_a_window_that_is_long_over_goes_and_one_that_is_held_stays() -> None:
    meters = begun()
    meters.reserve(asked("e1", "tsk_a", 10, steps=1), NOON)
    meters.reserve(asked("e2", "tsk_c", 10), NOON)
    meters.settle("e2", {"tokens": 10})
    meters.scopes.expire(NOON + HOUR)
    assert meters.scopes.expired == []
    meters.scopes.expire(NOON + 72 * HOUR)
    assert meters.scopes.expired == ["tenant:other/day/2026-11-23"]


@pytest.mark.parametrize(
    ("scope", "per", "limits"),
    [
        ("acme", "", {"usd": "1"}),
        ("tenant:", "", {"usd": "1"}),
        ("tenant:a b", "", {"usd": "1"}),
        ("type:", "", {"usd": "1"}),
        ("bus", "week", {"usd": "1"}),
        ("bus", "day", {}),
        ("bus", "day", {"seconds": 1}),
        ("bus", "day", {"gold": 1}),
        ("bus", "day", {"usd": "-1"}),
    ],
)
def test_what_is_no_limit_is_refused(scope: str, per: str, limits: Any) -> None:
    with pytest.raises(BadDeclaration):
        asked_limits(scope, per, limits)


# --- laws ------------------------------------------------------------------------------------------------------------------------

TASKS = st.sampled_from(["tsk_a", "tsk_b", "tsk_c"])
commands = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from("abcdefghijkl"), TASKS, st.integers(0, 60), st.integers(0, 40), st.integers(0, 2)),
        st.tuples(st.just("settle"), st.sampled_from("abcdefghijkl"), st.integers(0, 100)),
        st.tuples(st.just("close"), TASKS),
        st.tuples(st.just("open"), TASKS),
        st.tuples(st.just("later"), st.integers(1, 80)),
        st.tuples(st.just("compact")),
        st.tuples(st.just("limit"), st.sampled_from([10, 200, None])),
    ),
    max_size=50,
)


def state(meters: Meters) -> Any:
    """All that an answer may depend on."""
    counters = {
        key: ({m: a for m, a in one.used.items() if a}, {m: a for m, a in one.reserved.items() if a}, one.carried)
        for key, one in meters.scopes.counters.items()
    }
    used = {task: meters.used(task) for task in ("tsk_a", "tsk_b", "tsk_c")}
    return counters, used, meters.scopes._app, meters.scopes._operator, sorted(meters.owing()), meters._tasks


def replayed(rows: list[Row]) -> Meters:
    meters = Meters()
    for row in rows:
        meters.apply(row.kind, row.task, row.data)
    return meters


def play(meters: Meters, journal: MemoryJournal, clock: Hands, name: str, args: list[Any]) -> None:
    match name:
        case "reserve":
            id, task, tokens, wanted, steps = args
            journal.append(*meters.reserve(asked(f"{task}{id}", task, tokens, wanted=wanted, steps=steps), clock.now())[1])
        case "settle":
            for task in ("tsk_a", "tsk_b", "tsk_c"):
                known = meters._tasks.get(task)
                held = known.held.get(f"{task}{args[0]}") if known else None
                if held is not None:
                    journal.append(
                        *meters.settle(f"{task}{args[0]}", {meter: int(a) * args[1] // 100 for meter, a in held.amounts.items()})
                    )
        case "close":
            journal.append(*meters.close(args[0], 0))
        case "open":
            journal.append(*meters.open(args[0], {"tokens": 1000}, 1, 0, "bill", "acme"))
        case "later":
            clock.at += args[0] * HOUR
        case "limit":
            journal.append(*meters.decide(meters.scopes.ordered("tenant:acme", "day", {"tokens": args[0]}, "ann", "why")))
        case "compact":
            gone = [task for task in meters.forgotten if not meters.knows(task)]
            meters.forgotten.clear()
            journal.forget(METERS, gone, meters.carry(gone))
            meters.scopes.expire(clock.now())
            journal.forget(COUNTERS, [key for key in meters.scopes.expired if not meters.scopes.knows(key)])
            meters.scopes.expired.clear()


@given(commands)
def test_no_scope_is_ever_overrun_and_a_crash_at_any_row_changes_nothing(script: list[Any]) -> None:
    clock = Hands()
    journal = MemoryJournal(clock)
    meters = Meters()
    journal.append(*meters.decide(meters.scopes.declared(LIMITS)))
    lowered = False
    for task in ("tsk_a", "tsk_b", "tsk_c"):
        play(meters, journal, clock, "open", [task])
    for name, *args in script:
        lowered = lowered or name == "limit"
        play(meters, journal, clock, name, args)
        for row in meters.scopes.shown(clock.now()):
            for used, reserved, limit in row["meters"].values():
                assert used >= 0
                assert reserved >= 0
                assert limit is None or lowered or used + reserved <= limit
        if name != "compact":  # which lets go of windows that a replay finds again with the rows of tasks that live
            again = replayed(journal.store)
            again.scopes.expire(clock.now())
            meters.scopes.expire(clock.now())
            journal.forget(COUNTERS, [key for key in meters.scopes.expired if not meters.scopes.knows(key)])
            meters.scopes.expired.clear()
            assert state(again) == state(meters)


def test_64_branches_against_one_limit_never_pass_it_together() -> None:
    rng = random.Random(7)
    meters = begun([["tenant:acme", "hour", {"tokens": 500}]])
    held: list[tuple[str, int]] = []
    for turn in range(4000):
        branch = rng.randrange(64)
        if rng.random() < 0.5 or not held:
            grant, _ = meters.reserve(asked(f"e{turn}", ("tsk_a", "tsk_b")[branch % 2], rng.randrange(40), wanted=rng.randrange(60)), NOON)
            if grant.error is None:
                held.append((f"e{turn}", grant.units))
        else:
            id, units = held.pop(rng.randrange(len(held)))
            meters.settle(id, {"tokens": rng.randrange(units + 1)})
        (row,) = meters.scopes.shown(NOON)
        used, reserved, limit = row["meters"]["tokens"]
        assert used + reserved <= limit
    assert used > 450


# --- on a bus --------------------------------------------------------------------------------------------------------------------


class Go(Message, contract="go.now", version="1.0.0"):
    calls: int


def made() -> App:
    app = App("shared")
    app.limit("tenant:acme", per="day", steps=4)
    app.limit("type:flow", per="hour", writes={"mail": 100})

    @app.tool(effect="read")
    async def look(n: int, ctx: ToolContext) -> int:
        """Look."""
        return n

    @app.agent("looker", version="1.0.0", tools=[look])
    async def looker(request: Go, ctx: Any) -> Go:
        for n in range(request.calls):
            await ctx.call(look, n=n)
        return request

    @app.workflow("flow", version="1.0.0", budget=Budget(steps=100))
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(request, returns=Go)

    return app


def test_tasks_of_a_tenant_share_its_limit_over_every_crash() -> None:
    async def main(sim: Simulation) -> None:
        flow = sim.app.workflows["flow"]
        first = await sim.bus.submit(flow, Go(calls=3), tenant="acme")
        assert await first.outcome() == "success"
        await asyncio.sleep(100)  # the journal has forgotten the task
        sim.crash_supervisor(down=1.0)
        second = await sim.bus.submit(flow, Go(calls=3), tenant="acme")
        assert await second.outcome() == "budget_exceeded"
        assert "The limit of tenant:acme per day on steps is reached: 4 allowed, 4 used" in str((await second.record()).error)
        other = await sim.bus.submit(flow, Go(calls=3), tenant="other")
        assert await other.outcome() == "success"

    simulate(main, made())


@pytest.mark.parametrize("crashed", [False, True])
def test_four_fifths_of_what_tasks_share_are_said_once_in_a_window_and_stand_in_status(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        flow = sim.app.workflows["flow"]
        for calls in (9, 1, 3):
            assert await (await sim.bus.submit(flow, Go(calls=calls), tenant="near")).outcome() == "success"
            assert bool(told(sim)) == (calls == 3)
        if crashed:
            sim.crash_supervisor(down=0.5)
            sim.crash_engine(down=0.5)
        assert await (await sim.bus.submit(flow, Go(calls=1), tenant="near")).outcome() == "success"
        await asyncio.sleep(10)
        (said,) = told(sim)
        assert (said.scope, said.per, said.meter, said.used, said.limit) == ("tenant:near", "day", "steps", "12", "15")
        (row,) = (await sim.bus.status())["near_limits"]
        assert row == {"scope": "tenant:near", "per": "day", "meter": "steps", "used": "14", "limit": "15"}
        if not crashed:
            assert isinstance(sim.clock, VirtualClock)
            sim.clock.jump(24 * 3600.0)
            assert await (await sim.bus.submit(flow, Go(calls=13), tenant="near")).outcome() == "success"
            await asyncio.sleep(10)
            assert len(told(sim)) == 2

    def told(sim: Simulation) -> list[e.LimitNeared]:
        return [fact for entry in sim.store.reader.entries("") if isinstance(fact := entry.open(), e.LimitNeared)]

    app = made()
    app.limit("tenant:near", per="day", steps=15)
    simulate(main, app)


def test_status_counts_the_tasks_of_each_tenant() -> None:
    async def main(sim: Simulation) -> None:
        waiting = sim.app.workflows["waiting"]
        for tenant in ("acme", "default", "acme"):
            await sim.bus.submit(waiting, Go(calls=0), tenant=tenant)
        await asyncio.sleep(60)
        status = await sim.bus.status()
        assert status["tenants"] == {"acme": 2, "default": 1}
        assert _shared(status) == ["By tenant: acme 2, default 1."]
        crowd = {f"t{number}": 1 for number in range(12)}
        near = [{"scope": "bus", "per": "day", "meter": "usd", "used": "81", "limit": "100"}]
        assert _shared({"tenants": crowd, "undoing_tasks": 3, "near_limits": near}) == [
            f"By tenant: {', '.join(f't{number} 1' for number in range(10))} and 2 others.",
            "3 of them undo what others did.",
            "Limit of bus per day: 81 of 100 usd are used or held.",
        ]

    app = made()

    @app.workflow("waiting", version="1.0.0", budget=Budget(seconds=1000))
    async def waiting(request: Go, ctx: WorkflowContext) -> Go:
        await ctx.sleep(900)
        return request

    simulate(main, app)
