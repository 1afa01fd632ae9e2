"""SIGKILL of a warden and of the registry, on Ray: they hold nothing, and whoever comes in their place goes on with the same."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from stage import Stage, read, start

from interlock import Message, Outcome
from interlock.cluster.config import REGISTRY, WARDEN

pytestmark = pytest.mark.ray


def end(stage: Stage, actor: str) -> None:
    """SIGKILL of the one whose name begins so; it has ended on return."""
    named = ray.util.list_named_actors(all_namespaces=True)
    (name,) = [one["name"] for one in named if one["namespace"] == stage.name and actor in one["name"]]
    get: Any = ray.get
    process = psutil.Process(get(stage.actor(name).__ray_call__.remote(lambda self: os.getpid())))
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_who_dies_while_there_is_no_warden_is_replaced(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "waiting", tmp_path)
    working = read(tmp_path / "started")
    end(stage, WARDEN)
    os.kill(working, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert task.outcome(timeout=45) is Outcome.SUCCESS
    assert stage.member("waiting") != working


def test_a_kill_waits_for_the_next_warden_and_is_verified(stage: Stage, tmp_path: Path) -> None:
    task = start(stage, "stubborn", tmp_path)
    working = psutil.Process(read(tmp_path / "started"))
    end(stage, WARDEN)
    receipt = task.kill("enough", by="ada")
    assert receipt["verified"]
    assert task.outcome(timeout=10) is Outcome.KILLED
    assert not working.is_running()


def test_the_next_registry_knows_what_is_registered(stage: Stage) -> None:
    end(stage, REGISTRY)

    class Wider(Message, contract="stage.guarded", version="1.1.0"):
        hang: bool = False
        why: str = ""

    assert stage.bus.contracts.register(Wider)
    assert not stage.bus.contracts.register(Wider)
