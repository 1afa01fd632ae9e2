"""The kill on real processes: who lets go, who does not, and who has children."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from stage import Stage, read, start, until

from interlock import Outcome, TaskFailed
from interlock.cluster.config import ORCHESTRATOR

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


def test_a_busy_loop_is_ended_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
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


def test_a_kill_needs_no_orchestrator(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "stubborn", tmp_path / "alone")
    pid = read(tmp_path / "alone" / "started")
    orchestrator = stage.process(ORCHESTRATOR)
    os.kill(orchestrator, signal.SIGSTOP)
    try:
        receipt = task.kill("while it hangs", by="ada")
        assert receipt["verified"]
        until(lambda: not psutil.pid_exists(pid))
    finally:
        os.kill(orchestrator, signal.SIGCONT)
    assert task.outcome(timeout=30) is Outcome.KILLED


def test_the_ledger_of_all_this_is_whole(stage: Stage) -> None:
    assert stage.bus.verify() > 20
    assert all(row["state"] == "ended" for row in stage.bus.tasks())
