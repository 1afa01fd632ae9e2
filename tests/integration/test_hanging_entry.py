"""An entry condition that loops for ever costs its submit and its runner's process, nothing else."""

from pathlib import Path

import psutil
import pytest

from interlock import App, Bus, Message, Outcome, WorkflowContext
from interlock.actors.board import read
from interlock.launch import run_dir
from interlock.schemas.errors import EntryRefused

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

NAME = "hanging"


def make() -> App:
    class Go(Message, contract="hanging.go", version="1.0.0"):
        hang: bool = False

    app = App("hanging")

    def ends(request: Go) -> bool:
        while request.hang:
            pass
        return True

    @app.workflow("flow", version="1.0.0", entry=ends)
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        return request

    return app


def test_a_condition_that_never_ends_costs_its_runner_alone(tmp_path: Path) -> None:
    with Bus.start(make(), folder=tmp_path, name=NAME) as bus:
        (board,) = run_dir(tmp_path, NAME).glob("runners-*.board")
        found = read(board)
        assert found is not None
        process = psutil.Process(found.owner.pid)
        with pytest.raises(EntryRefused, match="gave no answer within 10 seconds"):
            bus.submit_json("flow", {"hang": True})
        assert bus.submit_json("flow", {}).outcome(timeout=30) == Outcome.SUCCESS
        psutil.wait_procs([process], timeout=10)
        assert not process.is_running()
