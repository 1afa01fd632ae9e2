"""A supervisor that is killed or frozen, on Ray: a task's clock goes on, and a kill says in time what came of it."""

import os
import signal
import time
from pathlib import Path

import pytest
from stage import Stage, make_app, start

from interlock import App, Bus, Outcome
from interlock.cluster.config import LEDGER_FILE, ORCHESTRATOR, SUPERVISOR
from interlock.orchestrator.ledger.reader import Reader
from interlock.schemas.errors import NotBorn, OrderStands

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]


def test_every_pool_has_a_member_once_the_bus_has_started(stage: Stage) -> None:
    assert stage.pools == {name: [f"{name}-1"] for name in ("runners", "stubborn", "waiting", "parent")}


def test_seconds_run_out_though_nobody_calls_a_dead_supervisor(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path, seconds=4)
    os.kill(stage.process(SUPERVISOR), signal.SIGKILL)
    assert task.outcome(timeout=45) is Outcome.BUDGET_EXCEEDED


def test_orchestrator_and_supervisor_come_back_though_nobody_calls_either(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path, seconds=4)
    for pid in (stage.process(ORCHESTRATOR), stage.process(SUPERVISOR)):
        os.kill(pid, signal.SIGKILL)
    reader, deadline = Reader(stage.home / LEDGER_FILE), time.monotonic() + 45
    while not (row := reader.task(task.id)) or not row.outcome:
        assert time.monotonic() < deadline, "nobody goes on with it"
        time.sleep(0.1)
    assert row.outcome == Outcome.BUDGET_EXCEEDED
    reader.close()


def test_an_order_against_a_frozen_supervisor_is_durable_and_obeyed_when_it_wakes(stage: Stage, tmp_path: Path) -> None:
    task, pid = start(stage, "waiting", tmp_path), stage.process(SUPERVISOR)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interlock.cluster.backend.KILL_SECONDS", 1.0)
            patch.setattr("interlock.cluster.backend.PING_SECONDS", 1.0)
            # In a file of its own, where the supervisor was stopped in the middle of a commit and holds the lock.
            with pytest.raises(OrderStands, match=r"durable in .*(supervisor\.db|/orders/ord_)"):
                task.kill("enough", by="ada")
        assert time.monotonic() - began < 30
    finally:
        os.kill(pid, signal.SIGCONT)
    assert task.outcome(timeout=45) is Outcome.KILLED
    assert task.kill("again", by="bob")["by"] == "ada"


def test_an_app_that_cannot_be_loaded_in_its_processes_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(NotBorn, match="cannot be loaded there"):
        Bus.start(Unloadable("unborn"), folder=tmp_path / "bus", name="unborn")


class Unloadable(App):
    """Loads where it is made and nowhere else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        made = make_app()
        self.agents, self.workflows = made.agents, made.workflows

    def __reduce__(self) -> tuple[object, ...]:
        return _only_here, (os.getpid(),)


def _only_here(pid: int) -> App:
    if pid != os.getpid():
        raise ModuleNotFoundError("no module named 'shop'")
    return make_app()
