"""What an agent needs goes to Ray: who finds it works there, and who does not says what is missing."""

import os
from pathlib import Path

import pytest
from stage import on_stage, until

from interlock import AgentContext, App, Message, Needs, WorkflowContext

pytestmark = pytest.mark.ray


class Where(Message, contract="needs.where", version="1.0.0"):
    name: str


class Found(Message, contract="needs.found", version="1.0.0"):
    value: str


def an_app() -> App:
    app = App("needs")

    @app.agent("placed", version="1.0.0", needs=Needs(num_cpus=1, runtime_env={"env_vars": {"NEEDS_MODE": "fast"}}))
    async def placed(request: Where, ctx: AgentContext) -> Found:
        return Found(value=os.environ.get(request.name, ""))

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

    return app


def test_a_replica_gets_what_it_needs_or_says_what_is_missing(tmp_path: Path) -> None:
    with on_stage(an_app(), tmp_path / "bus") as stage:
        stage.bus.scale("nowhere", 1)
        assert stage.bus.submit_json("look", {"name": "NEEDS_MODE"}).result(timeout=60)["value"] == "fast"
        said = until(lambda: stage.bus.status()["keeping"].get("nowhere", {}).get("trouble"))
        assert said == "nowhere-1 waits for a node: it needs no-such-thing 1, and the most that any node has is no-such-thing 0"
