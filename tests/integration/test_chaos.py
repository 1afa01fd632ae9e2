"""Chaos on Ray: many tasks while everybody is killed or stands still, and the database crashes; the laws hold as in the simulation.

INTERLOCK_SEED=N strikes as that seed does; a failing run names its own. Unlike a simulation it is not the same run again.
"""

import asyncio
import json
import logging
import os
import random
import re
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from chaos import PLAYBOOK, Driver, Strikes, World, make_app
from journal_laws import check_fences, check_limits
from postgres_server import Server

from interlock.actors.supervisor.journal import Row
from interlock.actors.supervisor.postgres_journal import SCHEMA
from interlock.cluster import driver
from interlock.orchestrator.ledger.stores import open_reader
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode
from interlock.schemas.entries import Entry
from interlock.schemas.errors import Erased
from interlock.schemas.places import LEDGER_VARIABLE, Database
from interlock.settings import ModelSettings
from interlock.testing.scripted_model import ScriptedModel

_LOG = logging.getLogger("interlock.chaos")

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

TASKS, KILLS, STORM, CALM = 300, 6, 10.0, 90.0
"""Tasks that are submitted while the storm lasts, kills among them, its seconds, and those within which all is over afterwards."""

QUESTIONS = 6
"""Tasks that wait for a human through most of it. One is erased meanwhile, another once it has ended."""


class Run(NamedTuple):
    log: list[Entry]
    rows: list[Row]
    world: World
    outcomes: dict[str, str]
    killed: list[str]
    erased: list[str]
    requests: list[tuple[tuple[str, int], int]]


def test_nothing_is_lost_and_nothing_repeated(postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("INTERLOCK_SEED") or random.SystemRandom().randrange(1_000_000))
    where = postgres_server.database()
    monkeypatch.setenv(LEDGER_VARIABLE, where.url)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    world = World.made(tmp_path / "world.db")
    strikes = Strikes(seed, "chaos", postgres_server.restart)
    _LOG.warning("INTERLOCK_SEED=%d", seed)
    try:
        with ScriptedModel.start(PLAYBOOK) as model:
            model.requests = arrivals = Arrivals()
            people = asyncio.run(play(seed, strikes, world, model, where))
            run = left(where, world, people, arrivals)
        for law in LAWS:
            law(run)
    except BaseException as error:
        error.add_note(f"INTERLOCK_SEED={seed}: {'; '.join(strikes.told)}")
        raise
    _LOG.warning("%s: %s, %d entries", "; ".join(strikes.told), Counter(run.outcomes.values()), len(run.log))
    assert len(strikes.told) > STORM / 3
    why = Counter(str(fact.reason)[:160] for _, fact in facts_of(run, e.TaskEnded) if fact.outcome == "failed")
    assert Counter(run.outcomes.values())["success"] > 0.9 * TASKS, why


async def play(seed: int, strikes: Strikes, world: World, model: ScriptedModel, where: Database) -> Driver:
    chance = random.Random(f"people {seed}")
    bus = await driver.start(make_app(world), model=ModelSettings(base_url=model.base_url, model="scripted-1"), name="chaos")
    async with bus:
        keep_rows(where)
        people = Driver(bus)
        victims = set(chance.sample(range(TASKS), KILLS))
        tasks = [
            asyncio.create_task(people.see_through(f"sale-{n}", STORM * n / TASKS, 3 * chance.random() if n in victims else None))
            for n in range(TASKS)
        ]
        tasks += [asyncio.create_task(people.answer(f"question-{n}", 0.8 * STORM, erase=n == 0)) for n in range(QUESTIONS)]
        weather = asyncio.create_task(strikes.blow(STORM))
        async with asyncio.timeout(STORM + CALM):
            await asyncio.gather(*tasks, weather)
            while (await bus.status())["live_tasks"]:  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.1)
        await people.erase(bus.task("question-1"))
        with pytest.raises(Erased):
            await bus.task("question-1").result()
        assert await bus.verify() > 5 * TASKS, "the chain is whole, and the rows are what the entries come to"
    return people


KEEP = f"""
CREATE TABLE public.kept_rows AS TABLE {SCHEMA}.journal WITH NO DATA;
CREATE FUNCTION public.keep_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.kept_rows SELECT NEW.*; RETURN NULL; END $$;
CREATE TRIGGER keep_row AFTER INSERT ON {SCHEMA}.journal FOR EACH ROW EXECUTE FUNCTION public.keep_row();
"""
"""The supervisor forgets rows of what is over. Here each is kept, in the transaction that writes it."""


def keep_rows(where: Database) -> None:
    with psycopg.connect(where.url) as db:
        db.execute(KEEP.encode())


def left(where: Database, world: World, people: Driver, arrivals: "Arrivals") -> Run:
    with closing(open_reader(where)) as reader:
        log = list(reader.all_entries(limit=1_000_000))
    with psycopg.connect(where.url) as db:
        found = db.execute("SELECT seq, at, kind, task, data FROM kept_rows ORDER BY seq", binary=True).fetchall()
    rows = [Row(seq, at, kind, task, decode(data)) for seq, at, kind, task, data in found]
    requests = [(call_in(request), at) for request, at in zip(arrivals, arrivals.times, strict=True)]
    return Run(log, rows, world, people.outcomes, people.killed, people.erased, requests)


class Arrivals(list[Any]):
    """Requests, and when each came (microseconds)."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []

    def append(self, request: Any) -> None:
        self.times.append(time.time_ns() // 1000)
        super().append(request)


# --- the laws ----------------------------------------------------------------------------------------------------------------------


def facts_of(run: Run, kind: type[Any]) -> list[tuple[Entry, Any]]:
    return [(entry, entry.open()) for entry in run.log if entry.kind == kind.KIND]


def one_outcome_for_each(run: Run) -> None:
    """Whatever was accepted is there and has one outcome: the one that its driver was told."""
    submitted = {f"tsk_sale-{n}" for n in range(TASKS)} | {f"tsk_question-{n}" for n in range(QUESTIONS)}
    assert Counter(entry.task for entry, _ in facts_of(run, e.TaskAccepted)) == Counter(submitted)
    ends = facts_of(run, e.TaskEnded)
    assert Counter(entry.task for entry, _ in ends) == Counter(submitted)
    assert {entry.task: fact.outcome for entry, fact in ends} == run.outcomes


def a_bad_end_has_its_reason(run: Run) -> None:
    orders = {row.task for row in run.rows if row.kind == "order"}
    receipts = {row.task for row in run.rows if row.kind == "receipt"}
    assert set(run.killed) <= orders == receipts
    stopped = {entry.task for entry, _ in facts_of(run, e.OrderRecorded)}  # an order that came after the end changes nothing
    assert stopped <= orders
    for entry, fact in facts_of(run, e.TaskEnded):
        by_chance = any(words in str(fact.reason) for words in ("stalled", "each time its gateway ended"))
        assert fact.outcome == ("killed" if entry.task in stopped else "success") or (fact.outcome == "failed" and by_chance), fact


def each_deed_at_most_once_and_intended_before(run: Run) -> None:
    """Once where the world would do it twice; and it never began without an intent of its own in the ledger."""
    done = run.world.read("SELECT goods, count(*) FROM deeds GROUP BY goods HAVING count(*) > 1")
    assert not done, done
    sold = {entry.task for entry, fact in facts_of(run, e.TaskEnded) if fact.outcome == "success" and "sale" in entry.task}
    assert sold <= {f"tsk_{goods}" for (goods,) in run.world.read("SELECT goods FROM deeds")}
    intents: dict[tuple[str, str], list[int]] = {}
    for entry, fact in facts_of(run, e.EffectIntended):
        intents.setdefault((fact.tool, fact.args["order"]), []).append(entry.at)
    begun: Counter[tuple[str, str]] = Counter()
    for tool, goods, at in run.world.read("SELECT tool, goods, at FROM begun ORDER BY at"):
        assert sum(intended <= at for intended in intents.get((tool, goods), ())) > begun[tool, goods], (tool, goods)
        begun[tool, goods] += 1


def no_recorded_model_call_is_made_again(run: Run) -> None:
    """The server has noted when each request came: none after its answer was recorded."""
    recorded = {call_in(fact.request): entry.at for entry, fact in facts_of(run, e.ModelCalled)}
    assert len(recorded) == len(facts_of(run, e.ModelCalled)), "one is recorded twice"
    again = [call for call, at in run.requests if at > recorded.get(call, at)]
    assert not again, again


def call_in(request: Any) -> tuple[str, int]:
    """Of which order it is, and the how manyeth of its conversation."""
    order = re.search(r"sale-\d+", json.dumps(request["messages"]))
    assert order is not None
    return order[0], sum(message["role"] == "tool" for message in request["messages"])


def nothing_is_granted_after_a_fence(run: Run) -> None:
    check_fences(run.rows, ((entry, entry.open()) for entry in run.log))


def no_limit_is_exceeded(run: Run) -> None:
    """Of each sale two model calls, a shelf and a dock were held."""
    check_limits(run.rows, at_least=4 * sum(how == "success" and "sale" in task for task, how in run.outcomes.items()))


def who_waits_for_a_human_is_there_when_one_comes(run: Run) -> None:
    """Also where it has left memory meanwhile; what was erased says nothing any more, and all else says what it said."""
    assert len({entry.task for entry, _ in facts_of(run, e.TaskParked)}) >= QUESTIONS - 1
    assert sorted(run.erased) == ["tsk_question-0", "tsk_question-1"]
    assert {entry.task for entry in run.log if entry.gone} == set(run.erased)
    for entry, fact in facts_of(run, e.TaskEnded):
        if "question" in entry.task and fact.outcome == "success":
            order = entry.task.removeprefix("tsk_")
            assert entry.gone == e.ERASED if entry.task in run.erased else fact.result == {"order": f"{order}: word of {order}"}


LAWS = (
    one_outcome_for_each,
    a_bad_end_has_its_reason,
    each_deed_at_most_once_and_intended_before,
    no_recorded_model_call_is_made_again,
    nothing_is_granted_after_a_fence,
    no_limit_is_exceeded,
    who_waits_for_a_human_is_there_when_one_comes,
)
