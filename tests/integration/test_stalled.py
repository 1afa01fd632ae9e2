"""Workflows that hang, leave their process or use up memory, on Ray: each costs two runners and itself, and nobody else notices."""

import os
import time
from collections.abc import Iterator

import pytest
from stage import Stage, on_stage

from interlock import App, Bus, Message, Outcome, WorkflowContext
from interlock.schemas import entries as e

pytestmark = pytest.mark.ray


class Do(Message, contract="stalled.do", version="1.0.0"):
    what: str = ""


def make_app() -> App:
    app = App("stalled")

    def misbehave(what: str) -> None:
        kept = []
        while what == "hang":
            pass
        while what == "eat":
            kept.append(bytearray(b"x") * 20_000_000)
            time.sleep(0.02)
        if what == "exit":
            os._exit(3)

    async def flow(request: Do, ctx: WorkflowContext) -> Do:
        await ctx.sleep(0.01)
        misbehave(request.what)
        await ctx.sleep(0.01)
        return request

    app.workflow("brief", version="1.0.0", resume_seconds=1, memory="400MB")(flow)
    app.workflow("flow", version="1.0.0", memory="400MB")(flow)
    return app


@pytest.fixture(scope="module")
def stalled(shared_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with on_stage(make_app(), tmp_path_factory.mktemp("bus")) as stage:
        yield stage


def lost(bus: Bus, task: str) -> list[e.RunnerLost]:
    return [fact for entry in bus.task(task).entries() if isinstance(fact := entry.open(), e.RunnerLost)]


@pytest.mark.parametrize(
    ("flow", "what", "why"),
    [("flow", "exit", "its process ended"), ("brief", "hang", "without an end"), ("flow", "eat", "of memory and may use")],
)
def test_a_bad_workflow_has_failed_the_second_time_and_costs_nobody_else_anything(stalled: Stage, flow: str, what: str, why: str) -> None:
    bad = stalled.bus.submit_json(flow, {"what": what})
    good = [stalled.bus.submit_json("flow", {}) for _ in range(3)]
    assert bad.outcome(timeout=60) == Outcome.FAILED
    error = bad.record().error
    assert error is not None
    assert error.startswith("stalled: 2 runners were lost")
    struck = lost(stalled.bus, bad.id)
    assert [fact.strike for fact in struck] == [1, 2]
    assert all(why in fact.why for fact in struck), struck
    assert [task.outcome(timeout=60) for task in good] == [Outcome.SUCCESS] * 3
    assert not any(lost(stalled.bus, task.id) for task in good)
