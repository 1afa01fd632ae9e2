"""The delivery team under fire, on a real git repository: whoever dies, and whenever, there is one commit of one tree, the task ends as it
would have, and no model is asked twice.

Git and the tests are real processes; all else is the simulation's, on the loop of `working_loop.py`.
"""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from working_loop import Work, WorkingLoop

from interlock.actors.team import review
from interlock.actors.team.contracts import STAGING, DeliveryRequest
from interlock.delivery import make_app
from interlock.orchestrator.ledger.projections import refold
from interlock.schemas.entries import Entry
from interlock.schemas.errors import AlreadyDecided, InterlockError, UnknownItem
from interlock.testing.simulation import Simulation
from interlock.tools.git import environment
from interlock.tools.jails import NO_JAIL
from interlock.tools.sandbox import Sandbox

GIVEN = ("CheckEntry", "Start", "Happened", "Dispatch", "CallModel")
"""The frames that give a peer something to do."""

MIDDLE = 0.01
"""Seconds into it: half of what a model takes to answer."""

WRONG = "--- a/code.txt\n+++ b/code.txt\n@@ -1 +1 @@\n-x = 1\n+x = 3\n"
RIGHT = WRONG.replace("x = 3", "x = 2")
TESTS = "grep -q 'x = 2' code.txt && echo 1 passed\n"

PLANNING, CODING, REVIEW = ({"agent": f"the agent {name}\\.", "delay": 2 * MIDDLE} for name in ("planning", "coding", "review"))
PLAYBOOK: dict[str, Any] = {
    "rules": [
        {**PLANNING, "tool_results": 0, "answer": {"tool_calls": [{"name": "list_files", "arguments": {"folder": ""}}]}},
        {**PLANNING, "answer": {"json": {"subtasks": [{"title": "two", "description": "x must be two"}]}}},
        {**CODING, "tool_results": 0, "answer": {"tool_calls": [{"name": "read_file", "arguments": {"path": "code.txt"}}]}},
        {**CODING, "user_json": {"/round": 1}, "answer": {"json": {"diff": WRONG, "summary": "A guess"}}},
        {**CODING, "answer": {"json": {"diff": RIGHT, "summary": "Two, then"}}},
        {**REVIEW, "tool_results": 0, "answer": {"tool_calls": [{"name": "run_tests", "arguments": {}}]}},
        {**REVIEW, "tool_result": '"passed":true', "answer": {"json": {"approved": True, "comments": "Good."}}},
        {**REVIEW, "answer": {"json": {"approved": False, "comments": "It is not two."}}},
    ]
}


# --- one delivery ------------------------------------------------------------------------------------------------------------------


class Delivered(NamedTuple):
    """What a delivery came to: `end` is its result but for the commit's name, `requests` counts what the models were asked."""

    end: Any
    tree: str
    commits: int
    owner: list[str]
    requests: int
    entries: list[Entry]
    frames: list[tuple[str, str]]
    rows: int
    works: list[Work]


Crash = Callable[[Simulation, WorkingLoop], None]


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repository, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Stage:
    """Where deliveries are made: each on a repository of its own, all alike."""

    def __init__(self, folder: Path) -> None:
        self._pattern, self._folder, self._number = folder / "pattern", folder, 0
        self._pattern.mkdir()
        git(self._pattern, "init", "-q", "-b", "main", "--template=")
        (self._pattern / "code.txt").write_text("x = 1\n")
        (self._pattern / "tests.sh").write_text(TESTS)
        git(self._pattern, "add", "-A")
        git(self._pattern, "commit", "-q", "-m", "first")
        (self._pattern / "code.txt").write_text("x = not finished\n")

    def deliver(self, crash: Crash | None = None) -> Delivered:
        """One delivery, from submit to the end; what `crash` sets up happens to it."""
        self._number += 1
        repository = self._folder / str(self._number)
        shutil.copytree(self._pattern, repository)

        async def run() -> Delivered:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, WorkingLoop)
            app = make_app(unsafe=True)
            sim = Simulation(app, PLAYBOOK)
            frames, works = _watched(sim, loop)
            if crash is not None:
                crash(sim, loop)
            try:
                await sim.start()
                return await _delivered(sim, app, repository, frames, works)
            finally:
                sim.on_entry = sim.on_row = sim.on_frame = loop.on_work = None
                sim.end_all()

        with asyncio.Runner(loop_factory=WorkingLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, WorkingLoop)
            try:
                found = runner.run(run())
            finally:
                loop.bury()
            assert not loop.problems, "\n".join(loop.problems)
        shutil.rmtree(repository)
        return found


def _watched(sim: Simulation, loop: WorkingLoop) -> tuple[list[tuple[str, str]], list[Work]]:
    frames: list[tuple[str, str]] = []
    works: list[Work] = []
    sim.on_frame = lambda name, frame: frames.append((name, type(frame).__name__))
    loop.on_work = works.append
    return frames, works


async def _delivered(sim: Simulation, app: Any, repository: Path, frames: list[tuple[str, str]], works: list[Work]) -> Delivered:
    boss = asyncio.create_task(_says_yes(sim))
    request = DeliveryRequest(repository=str(repository), goal="Make it two", test_command="sh tests.sh")
    task = await sim.bus.submit(app.workflows["software_delivery"], request, id="one")
    try:
        result = await asyncio.wait_for(task.result(), 4000)
        end: Any = result.model_copy(update={"commit": ""}), str(await task.outcome())
        assert result.commit == git(repository, "rev-parse", STAGING)
    except InterlockError as error:
        end = str(error)
    await asyncio.sleep(60)  # whoever is down comes up again, and nothing more happens
    boss.cancel()
    log = list(sim.store.reader.all_entries(limit=100_000))
    assert sim.store.reader.verify() == len(log)
    assert refold(log) == sim.store.disk.tables.rows  # type: ignore[attr-defined]
    assert [entry.kind for entry in log].count("task.ended") == 1
    assert not list((repository / ".git").rglob("*.lock"))
    owner = [git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD"), (repository / "code.txt").read_text()]
    made = git(repository, "branch", "--list", STAGING)
    tree = git(repository, "rev-parse", f"{STAGING}^{{tree}}") if made else ""
    commits = int(git(repository, "rev-list", "--count", "--all")) - 1
    assert sim.script is not None
    return Delivered(end, tree, commits, owner, sim.script.count, log, frames, len(sim.rows), works)


async def _says_yes(sim: Simulation) -> None:
    while True:
        for item in await sim.bus.inbox.list():
            assert item["kind"] == "approval", item
            try:
                await sim.bus.inbox.approve(item["item"], by="boss")
            except (UnknownItem, AlreadyDecided):
                continue  # he said it before, and did not hear that it was heard
        await asyncio.sleep(0.5)


# --- who dies, and when ------------------------------------------------------------------------------------------------------------


def engine_at(k: int) -> Crash:
    def arm(sim: Simulation, loop: WorkingLoop) -> None:
        def strike(entry: Entry) -> None:
            if entry.seq == k:
                sim.crash_engine(down=0.1)

        sim.on_entry = strike

    return arm


def supervisor_at(k: int) -> Crash:
    def arm(sim: Simulation, loop: WorkingLoop) -> None:
        def strike(row: Any) -> None:
            if row.seq == k:
                sim.crash_supervisor(down=0.1)

        sim.on_row = strike

    return arm


def peer_at(k: int, after: float | None) -> Crash:
    """The peer that takes the k-th frame dies: before it takes it (`after` is None), or so many seconds later."""

    def arm(sim: Simulation, loop: WorkingLoop) -> None:
        seen, outside = 0, copy_context()

        def strike(name: str, frame: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == k and after is None:
                end(sim, loop, name, True)
            elif seen == k and after is not None:
                loop.call_later(after, end, sim, loop, name, True, context=outside)

        sim.on_frame = strike

    return arm


def peer_with(number: int, ended: bool, and_kill: bool) -> Crash:
    """Who starts the process with this number dies, when it has begun or when it has ended; `and_kill`: the process with it."""

    def arm(sim: Simulation, loop: WorkingLoop) -> None:
        def strike(work: Work) -> None:
            if (work.number, work.ended) == (number, ended):
                end(sim, loop, work.owner, and_kill)

        loop.on_work = strike

    return arm


def end(sim: Simulation, loop: WorkingLoop, name: str, and_kill: bool) -> None:
    cell = sim.peers[name][1].cell
    sim.crash_peer(name)
    loop.release(cell, and_kill)


# --- the law -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("deliveries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        # A jail costs a tenth of a second, and it is not what dies here.
        patch.setattr(review, "choose", lambda unsafe: Sandbox(NO_JAIL))
        yield Stage(folder)


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> Delivered:
    return stage.deliver()


def same(crashed: Delivered, undisturbed: Delivered, where: str, more: int = 0) -> None:
    for what in ("end", "tree", "commits", "owner"):
        assert getattr(crashed, what) == getattr(undisturbed, what), (where, what)
    assert undisturbed.requests <= crashed.requests <= undisturbed.requests + more, where


def test_undisturbed_the_second_diff_is_committed(undisturbed: Delivered) -> None:
    result, outcome = undisturbed.end
    assert (outcome, result.delivered[0].round, undisturbed.commits, undisturbed.requests) == ("success", 2, 1, 10)
    assert undisturbed.owner[0] == "M code.txt"


@pytest.mark.timeout(300)
def test_the_orchestrator_dies_after_every_entry(stage: Stage, undisturbed: Delivered) -> None:
    for entry in undisturbed.entries:
        crashed = stage.deliver(engine_at(entry.seq))
        same(crashed, undisturbed, f"entry {entry.seq} {entry.kind}")
        assert max(one.epoch for one in crashed.entries) == 2


@pytest.mark.timeout(300)
def test_every_peer_dies_over_each_thing_that_it_is_given_to_do(stage: Stage, undisturbed: Delivered) -> None:
    """In the middle of it: while a model thinks, that is, for all but runners. At each of its processes deploy dies below."""
    struck = set()
    for k, (name, frame) in enumerate(undisturbed.frames, 1):
        if frame in GIVEN:
            struck.add(name)
            more = 1 if name.startswith("models") else 0  # a call in flight at a dead gateway is made once more
            same(stage.deliver(peer_at(k, MIDDLE)), undisturbed, f"frame {k}: {frame} at {name}", more)
    assert struck == {"runners-1", "planning-1", "coding-1", "review-1", "deploy-1", "models-1"}


@pytest.mark.timeout(300)
def test_the_supervisor_dies_now_and_then(stage: Stage, undisturbed: Delivered) -> None:
    """After every sixth row; what he holds does not depend on the team, and elsewhere he dies after each."""
    for k in range(1, undisturbed.rows + 1, 6):
        same(stage.deliver(supervisor_at(k)), undisturbed, f"row {k}")


@pytest.mark.timeout(300)
def test_deploy_dies_at_every_step_of_its_commit(stage: Stage, undisturbed: Delivered) -> None:
    """Right after each process of the commit has ended, the last of which has made it; and while that goes on without it."""
    first = max(work.number for work in undisturbed.works if not work.owner.startswith("deploy")) + 1
    steps = sorted(work for work in undisturbed.works if work.number >= first)
    assert steps[-1].command.startswith("git update-ref")
    for step in steps:
        if step.ended:
            same(stage.deliver(peer_with(step.number, ended=True, and_kill=True)), undisturbed, f"after {step}")
    same(stage.deliver(peer_with(steps[-1].number, ended=False, and_kill=False)), undisturbed, "while the branch is moved")
