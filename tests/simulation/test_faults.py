"""Chance against the laws: messages are lost and late, everybody dies at any moment, people kill and decide; the laws hold.

A failing seed is named; INTERLOCK_SEED=N runs that one alone. What a seed does is the same in every run.
"""

import asyncio
import os
import random
from collections import Counter
from contextvars import Context
from typing import Any, NamedTuple

import pytest
from shop import PLAYBOOK, OrderPlaced, World, boss, make_shop

from interlock import Budget
from interlock.actors.supervisor.journal import Row
from interlock.actors.supervisor.meters import Meters
from interlock.orchestrator.ledger.projections import refold
from interlock.orchestrator.parking import ParkingPace
from interlock.schemas import entries as e
from interlock.schemas.entries import Entry
from interlock.schemas.errors import AlreadyEnded, UnknownTask
from interlock.testing.simulation import Faults, Simulation, simulate

SEEDS = 100
STORM = 12.0
"""Seconds for which things go wrong; then they stop, and everything must come to its end."""

BY_CHANCE = ("stalled", "each time its gateway ended", "kill", "limit on", "seconds")
"""Why a task may end without success: it was hit too often, somebody wanted it, or its budget was too small."""


class Run(NamedTuple):
    """What is left of one run."""

    log: list[Entry]
    rows: list[Row]
    world: World
    accepted: dict[str, str]
    decided: dict[str, str]
    killed: list[str]
    outcomes: dict[str, str]


class Storm:
    """Everything that goes wrong in one run, by chance alone."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim, self.random = sim, random.Random(f"storm {seed}")
        chance = self.random
        sim.faults = Faults(loss=chance.choice((0.0, 0.03, 0.15)), delay=chance.choice((0.0, 0.3, 0.9)), longest=chance.choice((0.02, 0.5)))
        self.rate, self.again = chance.choice((0.3, 1.0, 2.0)), chance.choice((0.0, 0.3, 0.6))
        self.at_entry, self.at_row, self.at_frame = (chance.choice((0.0, 0.01, 0.05)) for _ in range(3))
        sim.on_entry, sim.on_row, sim.on_frame, sim.on_work = self.entry, self.row, self.frame, self.work
        parks = random.Random(f"parking {seed}")
        sim.parking = sim.engine.parking.pace = ParkingPace(parks.choice((0.0, 0.3, 5.0)), 0.0, parks.choice((0.05, 0.2, 1.0)))

    def entry(self, entry: Entry) -> None:
        if self.random.random() < self.at_entry:
            self.sim.crash_engine(down=self.random.choice((0.0, 0.02, 1.0)))
            self.strike_again()

    def row(self, row: Row) -> None:
        if self.random.random() < self.at_row:
            self.sim.crash_supervisor(down=self.random.choice((0.0, 0.02, 1.0)))
            self.strike_again()

    def frame(self, name: str, frame: Any) -> None:
        if self.random.random() < self.at_frame:
            self.sim.crash_peer(name)
            self.strike_again()

    def work(self, name: str, task: str) -> None:
        """In the middle of a workflow its runner ends, or hangs."""
        if name.startswith("runners") and self.random.random() < self.at_frame / 2:
            self.random.choice((self.sim.crash_peer, self.sim.freeze_peer))(name)
            self.strike_again()

    def strike_again(self) -> None:
        """Misfortunes come together: the next one before anybody has got over the last."""
        if self.random.random() < self.again:
            strike = self.random.choice((self.engine, self.supervisor, self.peer))
            asyncio.get_running_loop().call_later(0.05 * self.random.random(), strike, context=Context())

    async def blow(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + STORM
        while loop.time() < until:
            await asyncio.sleep(self.random.expovariate(self.rate))
            self.random.choice((self.engine, self.supervisor, self.peer, self.peer, self.scale))()
            self.strike_again()
        self.sim.faults = Faults()
        self.sim.on_entry = self.sim.on_row = self.sim.on_frame = self.sim.on_work = None

    def engine(self) -> None:
        self.sim.crash_engine(down=self.random.choice((0.0, 0.1, 3.0)))

    def supervisor(self) -> None:
        self.sim.crash_supervisor(down=self.random.choice((0.0, 0.1, 3.0)))

    def peer(self) -> None:
        living = self.sim.living()
        if living:
            self.sim.crash_peer(self.random.choice(living))

    def scale(self) -> None:
        agent, size = self.random.choice(("pricing", "cashier")), self.random.randint(1, 3)
        doing = asyncio.get_running_loop().create_task(self.sim.bus.scale(agent, size))
        doing.add_done_callback(lambda done: done.exception())


async def kill_someone(sim: Simulation, task: str, after: float, killed: list[str]) -> None:
    await asyncio.sleep(after)
    try:
        receipt = await sim.kill(task, "ann", "enough")
    except (UnknownTask, AlreadyEnded):
        return
    assert receipt.task == task
    killed.append(task)


async def storm(sim: Simulation, seed: int, world: World, app: Any) -> Run:
    chance = random.Random(f"people {seed}")
    decided: dict[str, str] = {}
    world.disk = sim.store.disk  # type: ignore[attr-defined]
    humans = asyncio.create_task(boss(sim, world, decided))
    weather = asyncio.create_task(Storm(sim, seed).blow())
    tasks, killed, killing = {}, list[str](), []
    for name in ("one", "two", "three", "four"):
        budget = chance.choice((None, None, None, None, Budget(steps=chance.randint(1, 12)), Budget(seconds=chance.choice((4, 2000)))))
        tasks[name] = await sim.bus.submit(app.workflows["sale"], OrderPlaced(order=name), id=name, budget=budget)
        if chance.random() < 0.2:
            killing.append(asyncio.create_task(kill_someone(sim, f"tsk_{name}", 20 * chance.random(), killed)))
        await asyncio.sleep(0.5 * STORM * chance.random())
    await weather
    tasks["calm"] = await sim.bus.submit(app.workflows["sale"], OrderPlaced(order="calm"), id="calm")
    accepted = {task.id: name for name, task in tasks.items()}
    outcomes = {task.id: str(await asyncio.wait_for(task.outcome(), 3600)) for task in tasks.values()}
    await asyncio.gather(*killing)
    await asyncio.sleep(120)
    humans.cancel()
    assert outcomes["tsk_calm"] == "success", "nothing went wrong any more when it came"
    log = list(sim.store.reader.all_entries(limit=1_000_000))
    assert sim.store.reader.verify() == len(log)
    assert refold(log) == sim.store.disk.tables.rows  # type: ignore[attr-defined]
    assert not sim.engine.tasks
    assert len(sim.engine.parking) == 0
    assert all(len(sim.supervisor.pools.members(pool)) >= 1 for pool in ("pricing", "cashier", "runners", "models"))
    return Run(log, list(sim.rows), world, accepted, decided, killed, outcomes)


def play(seed: int) -> Run:
    world = World()
    app = make_shop(world)
    return simulate(lambda sim: storm(sim, seed, world, app), app, PLAYBOOK, seed=seed)


# --- the laws ----------------------------------------------------------------------------------------------------------------------


def facts_of(run: Run, kind: type[Any]) -> list[tuple[Entry, Any]]:
    return [(entry, entry.open()) for entry in run.log if entry.kind == kind.KIND]


def one_outcome_for_each(run: Run) -> None:
    """Every accepted task is there and has exactly one outcome, the one that its driver was told."""
    ends = facts_of(run, e.TaskEnded)
    assert Counter(entry.task for entry, _ in ends) == Counter(list(run.accepted))
    assert Counter(entry.task for entry, _ in facts_of(run, e.TaskAccepted)) == Counter(list(run.accepted))
    assert {entry.task: fact.outcome for entry, fact in ends} == run.outcomes
    assert all(fact.outcome in ("success", "killed", "budget_exceeded", "failed") for _, fact in ends)
    reasons = [fact.reason for _, fact in ends if fact.outcome != "success"]
    assert all(any(words in reason for words in BY_CHANCE) for reason in reasons), reasons


def nothing_after_the_end(run: Run) -> None:
    """What comes after an outcome explains; it changes nothing."""
    ended = {entry.task: entry.seq for entry, _ in facts_of(run, e.TaskEnded)}
    late = {entry.kind for entry in run.log if entry.seq > ended.get(entry.task, len(run.log))}
    told = {"model.called", "model.cut_off", "receipt.recorded", "reply.refused", "effect.refused", "effect.ended", "deed.settled"}
    assert late <= told, late
    abandoned = {fact.effect for _, fact in facts_of(run, e.EffectUnknown) if fact.then == "none"}
    ends = [(entry, fact.effect) for entry, fact in facts_of(run, e.EffectEnded)]
    assert {effect for entry, effect in ends if entry.seq > ended.get(entry.task, len(run.log))} <= abandoned


def what_was_acknowledged_is_there(run: Run) -> None:
    decisions = {fact.item: fact.decision for _, fact in facts_of(run, e.ItemDecided)}
    assert run.decided.items() <= decisions.items()
    orders = {row.task for row in run.rows if row.kind == "order"}
    receipts = {row.task for row in run.rows if row.kind == "receipt"}
    assert set(run.killed) <= orders & receipts
    assert orders == receipts
    assert Counter(entry.task for entry, _ in facts_of(run, e.ReceiptRecorded)) == Counter(list(receipts))
    for entry, fact in facts_of(run, e.OrderRecorded):
        assert run.outcomes[entry.task] == ("killed" if fact.what == "kill" else "budget_exceeded")


def no_model_call_is_billed_twice(run: Run) -> None:
    assert all(number == 1 for number in Counter(fact.effect for _, fact in facts_of(run, e.ModelCalled)).values())


def every_deed_once_and_intended_before(run: Run) -> None:
    assert not run.world.repeated
    assert not run.world.unintended


def nothing_is_granted_after_a_fence(run: Run) -> None:
    ordered = {row.task: row.seq for row in run.rows if row.kind == "order"}
    assert all(row.seq < ordered[row.task] for row in run.rows if row.kind == "reserve" and row.task in ordered)
    recorded = {entry.task: entry.seq for entry, _ in facts_of(run, e.OrderRecorded)}
    assert all(entry.seq < recorded[entry.task] for entry, _ in facts_of(run, e.EffectIntended) if entry.task in recorded)


def no_limit_is_exceeded(run: Run) -> None:
    meters = Meters()
    for row in run.rows:
        if row.kind == "order":
            meters.fence(row.task, "an order")
        elif row.kind == "receipt":
            meters.release(row.task)
        else:
            meters.apply(row.kind, row.task, row.data)
        for meter, (used, reserved, limit) in meters.used(row.task).items():
            assert limit is None or used + reserved <= limit, (row, meter)


LAWS = (
    one_outcome_for_each,
    nothing_after_the_end,
    what_was_acknowledged_is_there,
    no_model_call_is_billed_twice,
    every_deed_once_and_intended_before,
    nothing_is_granted_after_a_fence,
    no_limit_is_exceeded,
)


def judge(seed: int) -> Run:
    try:
        run = play(seed)
        for law in LAWS:
            law(run)
    except BaseException as error:
        error.add_note(f"INTERLOCK_SEED={seed} runs this storm alone")
        raise
    return run


@pytest.mark.timeout(300)
def test_the_laws_hold_in_every_storm() -> None:
    alone = os.environ.get("INTERLOCK_SEED")
    seeds = [int(alone)] if alone else range(SEEDS)
    outcomes = Counter(outcome for seed in seeds for outcome in judge(seed).outcomes.values())
    if alone is None:
        assert outcomes["success"] > 0.4 * outcomes.total(), outcomes
        assert outcomes["killed"] > 0, outcomes
        assert outcomes["budget_exceeded"] > 0, outcomes


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_is_the_same_storm_every_time(seed: int) -> None:
    once, twice = play(seed), play(seed)
    assert once.log[-1].hash == twice.log[-1].hash
    assert once.log == twice.log
    assert once.rows == twice.rows
