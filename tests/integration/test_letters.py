"""Dead letters, messages into running tasks and silent replicas, on Ray: what simulations prove of them, once with real processes."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from click.testing import CliRunner
from stage import News, Stage, read, start, until

from interlock import Outcome
from interlock.cli import main
from interlock.cluster.config import ORCHESTRATOR
from interlock.schemas import entries as e

pytestmark = pytest.mark.ray


def by_hand(stage: Stage, *words: str) -> Any:
    """What `interlock dead ... --json` prints."""
    done = CliRunner().invoke(main, ["dead", *words, "--json", "--address", "local", "--name", stage.name])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def letter_of(stage: Stage, task: Any) -> str:
    return str(until(lambda: [one["item"] for one in by_hand(stage, "list") if one["task"] == task.id])[0])


def test_a_message_that_ends_three_replicas_waits_for_a_human_and_is_retried_or_dropped_by_hand(stage: Stage, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("retried", "dropped")]
    for folder in folders:
        folder.mkdir()
        (folder / "poison").touch()
    retried, dropped = (start(stage, "waiting", folder) for folder in folders)
    letter, other = letter_of(stage, retried), letter_of(stage, dropped)
    assert stage.bus.status()["dead_letters"] == 2
    whole = by_hand(stage, "show", letter)
    assert whole["message"]["data"]["folder"] == str(folders[0])
    assert len(whole["losses"]) == 3
    (folders[0] / "poison").unlink()
    (folders[0] / "go").touch()
    assert by_hand(stage, "retry", letter)["decision"] == "retried"
    assert retried.outcome(timeout=60) is Outcome.SUCCESS
    assert by_hand(stage, "drop", other, "--note", "never mind")["decision"] == "dropped"
    assert dropped.outcome(timeout=60) is Outcome.FAILED
    assert by_hand(stage, "list") == []
    assert {one["item"] for one in by_hand(stage, "list", "--all")} >= {letter, other}
    assert any(isinstance(entry.open(), e.DeadLettered) for entry in retried.entries())


def test_a_replica_that_says_nothing_is_replaced_and_its_work_done_by_another(stage: Stage, tmp_path: Path) -> None:
    with patience(stage, 2.0):
        task = start(stage, "waiting", tmp_path)
        silent = read(tmp_path / "started")
        os.kill(silent, signal.SIGSTOP)
        (tmp_path / "go").touch()
        assert task.result(timeout=60)["pid"] != silent
        assert stage.member("waiting") != silent


def test_a_message_reaches_a_task_that_runs(stage: Stage) -> None:
    task = stage.bus.submit_json("listener", {"hang": False})
    told = [task.send(News(text="one"), id="one"), task.send(News(text="two")), task.send(News(text="one"), id="one")]
    assert told[0] == told[2]
    assert task.result(timeout=60) == {"text": "one two"}


@contextmanager
def patience(stage: Stage, seconds: float) -> Iterator[None]:
    """For so long the orchestrator waits for a peer that says nothing."""

    def have(seconds: float) -> float:
        def change(self: Any) -> float:
            from interlock.orchestrator import peers

            before, peers.SILENT_SECONDS = peers.SILENT_SECONDS, seconds
            return before

        get: Any = ray.get
        return float(get(stage.actor(ORCHESTRATOR).__ray_call__.remote(change)))

    before = have(seconds)
    try:
        yield
    finally:
        have(before)
