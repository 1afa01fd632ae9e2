"""An entry condition that loops for ever costs its submit and its runner's process, nothing else."""

from typing import Any

import psutil
import pytest
import ray
from stage import Stage

from interlock import Outcome
from interlock.cluster.config import ORCHESTRATOR
from interlock.orchestrator import admission
from interlock.schemas.errors import EntryRefused

pytestmark = pytest.mark.ray


def wait_at_most(stage: Stage, seconds: float) -> None:
    """Let the orchestrator wait so long for an entry condition. That it waits for ten seconds is proved where time costs nothing."""

    def patch(actor: Any) -> None:
        admission.ENTRY_SECONDS = seconds

    get: Any = ray.get
    get(stage.actor(ORCHESTRATOR).__ray_call__.remote(patch))


def test_a_condition_that_never_ends_costs_its_runner_alone(stage: Stage) -> None:
    process = psutil.Process(stage.member("runners"))
    usual = admission.ENTRY_SECONDS
    wait_at_most(stage, 2)
    try:
        with pytest.raises(EntryRefused, match="gave no answer within 2 seconds"):
            stage.bus.submit_json("guarded", {"hang": True})
    finally:
        wait_at_most(stage, usual)
    assert stage.bus.submit_json("guarded", {}).outcome(timeout=30) == Outcome.SUCCESS
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running()
