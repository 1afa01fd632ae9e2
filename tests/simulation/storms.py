"""One storm: a shop under everything that can go wrong, by chance alone, and the same from the same seed every time.

Everybody dies at any step, stands still and comes back after another has taken the place; messages are lost, late, doubled and overtake
each other; the disks fail, the clock is set wrong by an hour, models answer with errors, rubbish or nothing; people kill, decide and erase.
In the end what may be pruned is.
"""

import asyncio
import random
from collections import Counter
from contextvars import Context
from hashlib import sha256
from typing import Any, NamedTuple

from shop import PLAYBOOK, OrderPlaced, World, boss, make_shop

from interlock import Budget
from interlock.actors.supervisor.journal import Row
from interlock.orchestrator.ledger.memory import Disk
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.parking import ParkingPace
from interlock.schemas import entries as e
from interlock.schemas.breaker import PAUSE_SECONDS
from interlock.schemas.entries import Entry, Fact
from interlock.schemas.errors import AlreadyEnded, Fenced, InterlockError, Overloaded, TaskLive, UnknownTask
from interlock.schemas.frames import Answered, Happened
from interlock.schemas.turns import PRIORITIES
from interlock.schemas.undo import undoing_of
from interlock.testing.playbook import Playbook
from interlock.testing.simulation import Faults, Simulation, simulate
from interlock.testing.virtual_time import WEEK, VirtualClock

STORM = 10.0
"""Seconds for which things go wrong; then they stop, and everything must come to its end."""

REST = 60.0
"""Seconds in which nothing may happen any more."""

HOUR = 3600.0
PATIENCE = 3 * HOUR
"""So long is waited for the end of a task: its seconds, and an hour, by which the clock may have been set back."""
LIMIT = WEEK
"""In which the whole storm must be over."""
LONG = 31 * 24 * HOUR
"""After that time what model calls said may be pruned."""

WORLD = World()
SHOP = make_shop(WORLD)
"""Built once for all storms of a process: what an app declares never changes."""
SHOP.live = 2
BOOK = Playbook.load(PLAYBOOK)


class Run(NamedTuple):
    """What is left of one run, with facts as they were said. `early`: what somebody was told before it was durable; `left`: who was still
    in memory at the end; `erased`: what those answer of whom somebody was told that they are."""

    facts: list[tuple[Entry, Fact]]
    rows: list[Row]
    world: World
    disk: Disk
    accepted: dict[str, str]
    decided: dict[str, str]
    killed: list[str]
    erased: dict[str, list[str]]
    outcomes: dict[str, str]
    early: list[str]
    left: list[str]

    @property
    def digest(self) -> str:
        """Of all that is durable: the ledger and the journal."""
        return sha256(self.disk.log[-1].hash + repr(self.rows).encode()).hexdigest()


EVENTS = (e.MessageReceived, e.DispatchFailed, e.MessagePosted, e.TimerFired)
"""What a workflow hears of, but for decisions."""


class Witness:
    """Reads what becomes durable, and sees all that is told meanwhile."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.facts: list[tuple[Entry, Fact]] = []
        self.early: list[str] = []
        self.decided: dict[str, str] = {}
        self._answered: set[str] = set()
        self._events: Counter[str] = Counter()
        WORLD.intended = self._intended = Counter[tuple[str, str]]()
        write = disk.write

        def written(batch: Sealed) -> None:
            write(batch)
            self.read()  # before any of it can be erased

        disk.write = written  # type: ignore[method-assign]

    def read(self) -> None:
        """What has become durable since."""
        for entry in self.disk.log[len(self.facts) :]:
            fact = entry.open()
            self.facts.append((entry, fact))
            if isinstance(fact, e.EffectEnded | e.EffectRefused | e.ModelCalled | e.ModelCutOff):
                self._answered.add(fact.effect)
            elif isinstance(fact, e.EffectIntended):
                self._intended[fact.tool, fact.args["order"]] += 1
            elif isinstance(fact, EVENTS) or (isinstance(fact, e.ItemDecided) and fact.n and fact.decision != "expired"):
                self._events[entry.task] += 1

    def frame(self, name: str, frame: Any) -> None:
        """A peer is told something: a result, or what has happened to a workflow."""
        if isinstance(frame, Answered):
            self.read()
            if frame.effect not in self._answered:
                self.early.append(f"the result of {frame.effect}, to {name}")
        elif isinstance(frame, Happened):
            self.read()
            if frame.event > self._events[frame.task]:
                self.early.append(f"event {frame.event} of {frame.task}, to {name}")

    def decision(self, item: str, decision: str) -> None:
        """A human is told that a decision stands."""
        self.decided[item] = decision
        row = self.disk.item(item)
        if row is None or row.decision != decision:
            self.early.append(f"the decision of {item}")

    def outcome(self, task: str, outcome: str) -> None:
        """A driver is told how a task has ended."""
        row = self.disk.task(task)
        if row is None or row.outcome != outcome:
            self.early.append(f"the outcome of {task}")


class Storm:
    """Everything that goes wrong in one run. What can go wrong at all is drawn first, so that each kind is met alone and with others."""

    def __init__(self, sim: Simulation, witness: Witness, seed: int) -> None:
        self.sim, self.witness, self.random = sim, witness, random.Random(f"storm {seed}")
        chance = self.random
        sim.faults = Faults(
            loss=chance.choice((0.0, 0.03, 0.15)),
            delay=chance.choice((0.0, 0.3, 0.9)),
            longest=chance.choice((0.02, 0.5)),
            double=chance.choice((0.0, 0.0, 0.3)),
            store=chance.choice((0.0, 0.0, 0.02)),
            slow=chance.choice((0.0, 0.0, 0.3)),
            model=chance.choice((0.0, 0.0, 0.5)),
        )
        self.rate, self.again = chance.choice((0.3, 1.0, 2.0)), chance.choice((0.0, 0.3, 0.6))
        self.at_entry, self.at_row, self.at_frame = (chance.choice((0.0, 0.01, 0.05)) for _ in range(3))
        self.at_deed = chance.choice((0.0, 0.4))
        self.wrong = 0.0
        # Who only waits leaves memory in the common time, or as soon as it may.
        sim.parking = sim.engine.parking.pace = chance.choice((ParkingPace(), ParkingPace(still=0.2, each=0.0, look=0.1)))
        self.strikes = [self.engine, self.supervisor, self.peer, self.peer, self.step, self.step, self.scale]
        self.strikes += chance.choice(((), (self.stop_engine, self.stop_supervisor, self.stop_peer, self.stop_peer)))
        self.strikes += chance.choice(((), (), (), (self.jump,)))
        sim.on_entry, sim.on_row, sim.on_frame, sim.on_work = self.entry, self.row, self.frame, self.work
        WORLD.on_deed = self.deed

    async def blow(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + STORM
        while loop.time() < until:
            await asyncio.sleep(self.random.expovariate(self.rate))
            self.random.choice(self.strikes)()
            self.strike_again()
        self.sim.faults = Faults()
        self.sim.on_entry = self.sim.on_row = self.sim.on_work = WORLD.on_deed = None
        self.sim.on_frame = self.witness.frame
        self.sim.crash_in(0)
        await asyncio.sleep(0.1)  # what strikes again strikes before

    # --- at a moment that matters ------------------------------------------------------------------------------------------------

    def entry(self, entry: Entry) -> None:
        if self.random.random() < self.at_entry:
            self.sim.crash_engine(down=self.random.choice((0.0, 0.02, 1.0)))
            self.strike_again()

    def row(self, row: Row) -> None:
        if self.random.random() < self.at_row:
            self.sim.crash_supervisor(down=self.random.choice((0.0, 0.02, 1.0)))
            self.strike_again()

    def frame(self, name: str, frame: Any) -> None:
        self.witness.frame(name, frame)
        if self.random.random() < self.at_frame:
            self.sim.crash_peer(name)
            self.strike_again()

    def work(self, name: str, task: str) -> None:
        """In the middle of a workflow its runner ends, or hangs."""
        if name.startswith("runners") and self.random.random() < self.at_frame / 2:
            self.random.choice((self.sim.crash_peer, self.sim.freeze_peer))(name)
            self.strike_again()

    def deed(self) -> None:
        """A write is being done: somebody dies before it, in the middle, or before it is told."""
        if self.random.random() < self.at_deed:
            strike = self.random.choice((self.engine, self.supervisor, self.cashier, self.cashier))
            asyncio.get_running_loop().call_later(0.03 * self.random.random(), strike, context=Context())

    def strike_again(self) -> None:
        """Misfortunes come together: the next one before anybody has got over the last."""
        if self.random.random() < self.again:
            strike = self.random.choice((self.engine, self.supervisor, self.peer, self.step))
            asyncio.get_running_loop().call_later(0.05 * self.random.random(), strike, context=Context())

    # --- at any moment -----------------------------------------------------------------------------------------------------------

    def engine(self) -> None:
        self.sim.crash_engine(down=self.random.choice((0.0, 0.1, 3.0)))

    def supervisor(self) -> None:
        self.sim.crash_supervisor(down=self.random.choice((0.0, 0.1, 3.0)))

    def peer(self) -> None:
        if living := self.sim.living():
            self.sim.crash_peer(self.random.choice(living))

    def cashier(self) -> None:
        for name in self.sim.living("replica"):
            if name.startswith("cashier"):
                self.sim.crash_peer(name)

    def step(self) -> None:
        """Whoever is at work dies between two of its steps."""
        self.sim.crash_in(self.random.randint(1, 200), down=self.random.choice((0.0, 0.1, 1.0)))

    def stop_engine(self) -> None:
        self.sim.stop_engine(down=self.random.choice((0.0, 0.1, 1.0)), back=self.random.choice((0.05, 0.5, 3.0, 20.0)))

    def stop_supervisor(self) -> None:
        self.sim.stop_supervisor(down=self.random.choice((0.0, 0.1, 1.0)), back=self.random.choice((0.05, 0.5, 3.0, 20.0)))

    def stop_peer(self) -> None:
        if living := self.sim.living():
            self.sim.stop_peer(self.random.choice(living), back=self.random.choice((0.05, 0.5, 3.0, 20.0)))

    def jump(self) -> None:
        """The clock is set wrong by an hour, or right again."""
        assert isinstance(self.sim.clock, VirtualClock)
        by = -self.wrong if self.wrong else self.random.choice((-HOUR, HOUR))
        self.wrong += by
        self.sim.clock.jump(by)

    def scale(self) -> None:
        agent, size = self.random.choice(("pricing", "cashier")), self.random.randint(1, 3)
        doing = asyncio.get_running_loop().create_task(self.sim.bus.scale(agent, size))
        doing.add_done_callback(lambda done: done.exception())


async def kill_someone(sim: Simulation, task: str, after: float, killed: list[str]) -> None:
    """Or what undoes it, where it has ended by itself."""
    await asyncio.sleep(after)
    for one in (task, undoing_of(task)):
        try:
            receipt = await sim.kill(one, "ann", "enough")
        except AlreadyEnded:
            continue
        except UnknownTask:
            return
        assert receipt.task == one
        killed.append(one)
        return


async def erase_someone(sim: Simulation, task: str, after: float, erased: dict[str, list[str]]) -> None:
    """Whoever is live is killed first."""
    await asyncio.sleep(after)
    while True:
        try:
            told = await sim.bus.task(task).erase("enough", by="ann")
        except TaskLive:  # what it did is just being undone
            await asyncio.sleep(1)
        else:
            break
    assert told["task"] == task
    erased[task] = []


async def answers_of(sim: Simulation, name: str, seed: int) -> list[str]:
    """What who wants the result of a task hears, and who wants to submit it again."""
    heard = []
    for asking in (sim.bus.task(name).result(), submit(sim, name, seed)):
        try:
            heard.append(repr(await asking))
        except InterlockError as error:
            heard.append(error.code)
    return heard


async def prune(sim: Simulation, chance: random.Random) -> None:
    """Long after all that, and even then somebody may die."""
    assert isinstance(sim.clock, VirtualClock)
    sim.clock.jump(LONG)
    sim.crash_in(chance.choice((0, chance.randint(1, 60))))
    await sim.bus.prune(days=30)
    sim.crash_in(0)
    await asyncio.sleep(REST)


async def submit(sim: Simulation, name: str, seed: int, budget: Budget | None = None) -> Any:
    """A sale on somebody's account; where too much is live it comes again when it is told to."""
    sharing = random.Random(f"sharing {seed} {name}")
    tenant, priority = sharing.choice(("acme", "other")), sharing.choice(PRIORITIES)
    while True:
        try:
            order = OrderPlaced(order=name, lines=2)
            return await sim.bus.submit(SHOP.workflows["sale"], order, id=name, budget=budget, tenant=tenant, priority=priority)
        except Overloaded as full:
            await asyncio.sleep(full.retry_after)


async def storm(sim: Simulation, seed: int) -> Run:
    chance, forgetting = random.Random(f"people {seed}"), random.Random(f"forgetting {seed}")
    disk = sim.store.disk  # type: ignore[attr-defined]
    witness = Witness(disk)
    humans = asyncio.create_task(boss(sim, WORLD, witness.decision))
    weather = asyncio.create_task(Storm(sim, witness, seed).blow())
    tasks, tells, killed, erased, ending = {}, {}, list[str](), dict[str, list[str]](), []
    for name in ("one", "two"):
        budget = chance.choice((None, None, None, None, Budget(steps=chance.randint(1, 12)), Budget(seconds=chance.choice((4, 2000)))))
        try:
            tasks[name] = await submit(sim, name, seed, budget)
        except Fenced:  # the clock jumped past its limit before it was accepted, and it never was
            continue
        tells[f"tsk_{name}"] = asyncio.create_task(outcome_of(tasks[name], witness))
        if chance.random() < 0.25:
            ending.append(asyncio.create_task(kill_someone(sim, f"tsk_{name}", 20 * chance.random(), killed)))
        if forgetting.random() < 0.25:
            ending.append(asyncio.create_task(erase_someone(sim, f"tsk_{name}", 30 * forgetting.random(), erased)))
        await asyncio.sleep(0.2 * STORM * chance.random())
    await weather
    await sim.find_dead()
    if (await sim.bus.status())["breakers"]:
        await asyncio.sleep(PAUSE_SECONDS)  # models that were out of order in the storm are tried again only then
    tasks["calm"] = await submit(sim, "calm", seed)
    tells["tsk_calm"] = asyncio.create_task(outcome_of(tasks["calm"], witness))
    accepted = {task.id: name for name, task in tasks.items()}
    outcomes = {task: await telling for task, telling in tells.items()}
    await asyncio.gather(*ending)
    humans.cancel()
    await asyncio.sleep(REST)
    await prune(sim, forgetting)
    erased = {task: await answers_of(sim, accepted[task], seed) for task in erased}
    small = [pool for pool in ("pricing", "cashier", "runners", "models") if not sim.supervisor.pools.members(pool)]
    return Run(
        witness.facts,
        sim.rows,
        WORLD,
        disk,
        accepted,
        witness.decided,
        killed,
        erased,
        outcomes,
        witness.early,
        [*sim.engine.tasks, *small],
    )


async def outcome_of(task: Any, witness: Witness) -> str:
    """How a task ended; `none` where it does not."""
    try:
        outcome = str(await asyncio.wait_for(task.outcome(), PATIENCE))
    except TimeoutError:
        return "none"
    except UnknownTask:
        return "lost"
    witness.outcome(task.id, outcome)
    return outcome


def play(seed: int) -> Run:
    WORLD.begin()
    return simulate(lambda sim: storm(sim, seed), SHOP, BOOK, seed=seed, limit=LIMIT)
