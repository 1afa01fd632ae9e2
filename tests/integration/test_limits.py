"""Limits on Ray: 64 branches of two tasks against one limit that they share, and an operator who changes it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from stage import on_stage

from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.schemas import entries as e

pytestmark = pytest.mark.ray

ALLOWED, BRANCHES = 40, 32


class Go(Message, contract="limits.go", version="1.0.0"):
    n: int


def an_app() -> App:
    app = App("limits")
    app.limit("tenant:acme", per="month", steps=ALLOWED)

    @app.tool(effect="read")
    async def look(n: int) -> int:
        """Look.

        Args:
            n: Where.
        """
        return n

    @app.agent("looker", version="1.0.0", tools=[look], replicas=(2, 2))
    async def looker(request: Go, ctx: AgentContext) -> Go:
        return Go(n=await ctx.call(look, n=request.n))

    @app.workflow("flow", version="1.0.0", budget=Budget(steps=BRANCHES + 1))
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        await asyncio.gather(*(ctx.ask(Go(n=n), returns=Go) for n in range(request.n)))
        await ctx.ask_human("Go on?")
        return request

    return app


def test_64_branches_share_a_limit_and_an_operator_raises_it(tmp_path: Path) -> None:
    with on_stage(an_app(), tmp_path / "bus") as stage:
        bus = stage.bus

        def steps() -> dict[str, Any]:
            (row,) = bus.limits()
            assert (row["scope"], row["per"]) == ("tenant:acme", "month")
            meter: dict[str, Any] = row["meters"]["steps"]
            return meter

        tasks = [bus.submit_json("flow", {"n": BRANCHES}, tenant="acme") for _ in range(2)]
        outcomes = [next(iter(_ends_or_waits(task))) for task in tasks]
        assert "budget_exceeded" in outcomes
        done = sum(isinstance(entry.open(), e.EffectEnded) for task in tasks for entry in task.entries())
        assert done <= steps()["used"] + steps()["reserved"] <= ALLOWED
        bus.limit("tenant:acme", {"steps": 200}, "paid for more", per="month", by="ann")
        third = bus.submit_json("flow", {"n": BRANCHES}, tenant="acme")
        assert next(iter(_ends_or_waits(third))) == "item.asked"
        third.change_budget({"steps": 100, "working_seconds": 60}, "let it", by="ann")
        assert third.budget()["meters"]["steps"] == {"used": BRANCHES, "reserved": 0, "limit": 100, "left": 100 - BRANCHES}
        assert [entry.open().meter for entry in third.entries() if isinstance(entry.open(), e.BudgetNeared)] == ["steps"]
        assert steps()["used"] <= ALLOWED + BRANCHES


def _ends_or_waits(task: Any) -> Any:
    """How the task ended, or that it asks a human."""
    for event in task.events():
        if isinstance(event.fact, e.TaskEnded):
            yield event.fact.outcome
        elif isinstance(event.fact, e.ItemAsked):
            yield event.kind
