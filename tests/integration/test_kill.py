"""The kill on real processes: who lets go, who does not, and who has children."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from stage import Stage, read, start, until

from interlock import Outcome, TaskFailed
from interlock.cluster.config import ORCHESTRATOR, SUPERVISOR
from interlock.schemas.errors import OrderStands

pytestmark = pytest.mark.ray


def test_a_cooperative_task_lets_go_and_its_replica_lives_on(stage: Stage, tmp_path: Path) -> None:
    victim, innocent = start(stage, "waiting", tmp_path / "victim"), start(stage, "waiting", tmp_path / "innocent")
    pid = read(tmp_path / "victim" / "started")
    read(tmp_path / "innocent" / "started")
    receipt = victim.kill("wrong order", by="ada")
    assert receipt["verified"]
    assert {one["how"] for one in receipt["processes"]} == {"cancelled"}
    assert victim.outcome(timeout=10) is Outcome.KILLED
    with pytest.raises(TaskFailed, match="ada killed it: wrong order"):
        victim.result(timeout=10)
    (tmp_path / "innocent" / "go").touch()
    assert innocent.result(timeout=30)["pid"] == pid


def test_who_swallows_its_cancellation_is_ended(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "swallow", tmp_path / "swallows")
    pid = read(tmp_path / "swallows" / "started")
    receipt = task.kill("it goes on", by="ada")
    assert receipt["verified"]
    assert "killed" in {one["how"] for one in receipt["processes"]}
    until(lambda: not psutil.pid_exists(pid))


def test_a_busy_loop_that_gives_nobody_a_turn_is_ended_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "stubborn", tmp_path / "busy")
    pid = read(tmp_path / "busy" / "started")
    receipt = task.kill("it spins", by="ada")
    assert receipt["verified"]
    assert "killed" in {one["how"] for one in receipt["processes"]}
    until(lambda: not psutil.pid_exists(pid))
    assert task.outcome(timeout=10) is Outcome.KILLED
    other = start(stage, "stubborn", tmp_path / "next")
    assert read(tmp_path / "next" / "started") != pid
    other.kill("enough", by="ada")


def test_a_stopped_replica_is_ended_too(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "stubborn", tmp_path / "stopped")
    pid = read(tmp_path / "stopped" / "started")
    os.kill(pid, signal.SIGSTOP)
    receipt = task.kill("it sleeps", by="ada")
    assert receipt["verified"]
    until(lambda: not psutil.pid_exists(pid))


def test_a_child_that_ignores_sigterm_goes_with_its_task(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "child", tmp_path / "family")
    child = read(tmp_path / "family" / "child")
    receipt = task.kill("no children", by="ada")
    assert receipt["verified"]
    assert receipt["unknown_effects"], "the tool call had no result: whether it took effect is not known"
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_killing_twice_returns_the_first_receipt(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path / "twice")
    read(tmp_path / "twice" / "started")
    assert task.kill("once", by="ada") == task.kill("twice", by="grace")
    assert task.outcome(timeout=10) is Outcome.KILLED


def test_the_clock_is_a_limit_like_any_other(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "stubborn", tmp_path / "slow", seconds=2)
    assert task.outcome(timeout=30) is Outcome.BUDGET_EXCEEDED
    assert "seconds" in str(task.record().error)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_kill_needs_no_orchestrator(stage: Stage, tmp_path: Path, how: signal.Signals) -> None:
    task = start(stage, "stubborn", tmp_path / "alone")
    pid = read(tmp_path / "alone" / "started")
    orchestrator = psutil.Process(stage.process(ORCHESTRATOR))
    orchestrator.send_signal(how)
    try:
        receipt = task.kill("while it is away", by="ada")
        assert receipt["verified"]
        until(lambda: not psutil.pid_exists(pid))
    finally:
        if how == signal.SIGSTOP:
            orchestrator.resume()
    assert task.outcome(timeout=30) is Outcome.KILLED


def test_a_kill_needs_no_supervisor_that_lives_when_it_comes(stage: Stage, tmp_path: Path) -> None:
    """It is in his journal, or a file beside it, before there is another one."""
    task = start(stage, "stubborn", tmp_path / "bereft")
    pid = read(tmp_path / "bereft" / "started")
    os.kill(stage.process(SUPERVISOR), signal.SIGKILL)
    with suppress(OrderStands):
        assert task.kill("while it is dead", by="ada")["verified"]
    assert task.outcome(timeout=45) is Outcome.KILLED
    until(lambda: not psutil.pid_exists(pid))


def test_the_ledger_of_all_this_is_whole(stage: Stage) -> None:
    assert stage.bus.verify() > 20
    assert all(row["state"] == "ended" for row in stage.bus.tasks())
