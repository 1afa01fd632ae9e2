"""An entry condition is asked of whichever runner lives: one that ends on the way costs the submit nothing but time."""

from typing import Any

import pytest

from interlock import App, Message, WorkflowContext
from interlock.schemas.errors import EntryRefused
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="entry.go", version="1.0.0"):
    pass


def willing(request: Go) -> bool:
    return True


app = App("entry")


@app.workflow("flow", version="1.0.0", entry=willing)
async def flow(request: Go, ctx: WorkflowContext) -> Go:
    return request


def fatal(sim: Simulation, times: int) -> list[str]:
    """The first `times` runners that are asked end on it; their names, as they do."""
    ended: list[str] = []

    def strike(name: str, frame: Any) -> None:
        if type(frame).__name__ == "CheckEntry" and len(ended) < times:
            ended.append(name)
            sim.crash_peer(name)

    sim.on_frame = strike
    return ended


@pytest.mark.parametrize("times", [1, 2])
def test_a_runner_that_ends_during_the_check_is_replaced_by_another(times: int) -> None:
    async def main(sim: Simulation) -> None:
        ended = fatal(sim, times)
        assert await (await sim.bus.submit_json("flow", {}, id="a")).outcome() == "success"
        assert len(set(ended)) == times

    simulate(main, app)


def test_a_condition_that_ends_every_runner_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        ended = fatal(sim, 100)
        with pytest.raises(EntryRefused, match="each of the 3 runners that evaluated it ended"):
            await sim.bus.submit_json("flow", {}, id="a")
        assert len(ended) == 3
        sim.on_frame = None
        assert await (await sim.bus.submit_json("flow", {}, id="b")).outcome() == "success"

    simulate(main, app)
