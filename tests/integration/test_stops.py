"""Stops on real processes: by type, tenant, agent and replica, each with its receipt; and what a killed task did is undone."""

from pathlib import Path
from typing import Any

import pytest
from stage import Stage, read, start, until

from interlock import Outcome
from interlock.schemas.errors import Closed

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("named", [{"type": "job"}, {"tenant": "acme"}])
def test_all_that_one_name_stands_for_ends_together_and_none_comes_in(stage: Stage, tmp_path: Path, named: dict[str, Any]) -> None:
    tasks = [start(stage, "waiting", tmp_path / str(number), tenant="acme") for number in range(3)]
    for number in range(3):
        read(tmp_path / str(number) / "started")
    receipt = stage.bus.kill(**named, why="enough", by="ada")
    assert (receipt["tasks"], receipt["verified"], receipt["heard"]) == (3, True, True)
    assert {one["how"] for one in receipt["processes"]} == {"cancelled"}
    assert {task.outcome(timeout=10) for task in tasks} == {Outcome.KILLED}
    with pytest.raises(Closed):
        start(stage, "waiting", tmp_path / "late", tenant="acme")
    stage.bus.resume(**named, why="well again", by="ada")
    again = start(stage, "waiting", tmp_path / "again", tenant="acme")
    read(tmp_path / "again" / "started")
    assert again.kill("once more", by="ada")["verified"]


def test_an_agent_loses_its_replicas_and_has_others_once_it_is_opened(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path / "one")
    pid = read(tmp_path / "one" / "started")
    receipt = stage.bus.kill(agent="waiting", why="it writes nonsense", by="ada")
    assert receipt["verified"]
    assert {one["how"] for one in receipt["processes"]} <= {"killed", "gone"}  # its pool lets go of it at the same time
    assert task.outcome(timeout=10) is Outcome.FAILED
    assert stage.bus.status()["pools"].get("waiting", []) == []
    stage.bus.resume(agent="waiting", why="it is mended", by="ada")
    assert stage.member("waiting") != pid


def test_a_replica_is_replaced_and_its_work_goes_on(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path / "one")
    pid = read(tmp_path / "one" / "started")
    (name,) = stage.bus.status()["pools"]["waiting"]
    receipt = stage.bus.kill(replica=name, why="it is slow", by="ada")
    assert [(one["incarnation"], one["how"]) for one in receipt["processes"]] == [(name, "killed")]
    (tmp_path / "one" / "go").touch()
    assert task.result(timeout=45)["pid"] != pid


def test_what_a_killed_task_did_is_undone_once_its_processes_are_gone(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "leave", tmp_path / "one")
    read(tmp_path / "one" / "started")
    left = tmp_path / "one" / "left"
    assert left.exists()
    receipt = task.kill("wrong folder", by="ada")
    assert receipt["verified"]
    (undo,) = receipt["undos"]
    assert stage.bus.task(undo["undoing"]).outcome(timeout=30) is Outcome.SUCCESS
    until(lambda: not left.exists())
    assert [one["state"] for one in task.undos()] == ["undone"]
    assert task.outcome() is Outcome.KILLED
