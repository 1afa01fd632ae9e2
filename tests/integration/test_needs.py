"""What an agent needs goes to Ray: who finds it works there, and who does not says what is missing. Who needs a process for each dispatch
has one."""

import os
from pathlib import Path

import pytest
from stage import on_stage, until

from interlock import AgentContext, App, Message, Needs, WorkflowContext

pytestmark = pytest.mark.ray


class Where(Message, contract="needs.where", version="1.0.0"):
    name: str


class Alone(Message, contract="needs.alone", version="1.0.0"):
    pass


class Found(Message, contract="needs.found", version="1.0.0"):
    value: str


def an_app() -> App:
    app = App("needs")

    @app.agent("placed", version="1.0.0", needs=Needs(num_cpus=1, runtime_env={"env_vars": {"NEEDS_MODE": "fast"}}))
    async def placed(request: Where, ctx: AgentContext) -> Found:
        return Found(value=os.environ.get(request.name, ""))

    @app.agent("alone", version="1.0.0", replicas=(1, 2), isolation="exclusive")
    async def alone(request: Alone, ctx: AgentContext) -> Found:
        return Found(value=str(os.getpid()))

    app.agent(
        "nowhere",
        version="1.0.0",
        instructions="Solve it.",
        accepts=Found,
        returns=Where,
        replicas=(0, 2),
        model="some",
        needs=Needs(custom={"no-such-thing": 1}),
    )

    @app.workflow("look", version="1.0.0")
    async def look(request: Where, ctx: WorkflowContext) -> Found:
        return await ctx.ask(request, returns=Found)

    @app.workflow("twice", version="1.0.0")
    async def twice(request: Alone, ctx: WorkflowContext) -> Found:
        return Found(value=" ".join([(await ctx.ask(request, returns=Found)).value for _ in range(2)]))

    return app


def test_a_replica_gets_what_it_needs_or_says_what_is_missing_and_one_may_be_for_a_single_dispatch(tmp_path: Path) -> None:
    with on_stage(an_app(), tmp_path / "bus") as stage:
        stage.bus.scale("nowhere", 1)
        first, second = map(int, stage.bus.submit_json("twice", {}).result(timeout=60)["value"].split())
        assert first != second
        until(lambda: not Path(f"/proc/{first}").exists() and not Path(f"/proc/{second}").exists())
        # Who ends after his dispatch has not failed: others are made at once, as fast as the machine can.
        until(lambda: (pool := stage.bus.status()["keeping"]["alone"])["ready"] and not pool["trouble"])
        assert stage.bus.submit_json("look", {"name": "NEEDS_MODE"}).result(timeout=60)["value"] == "fast"
        said = until(lambda: stage.bus.status()["keeping"].get("nowhere", {}).get("trouble"))
        assert said == "nowhere-1 waits for a node: it needs no-such-thing 1, and the most that any node has is no-such-thing 0"
