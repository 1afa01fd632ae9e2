"""Code that changed under a running task: nothing is sent, both sides are shown, a human decides."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import AgentContext, App, Escalate, Message, WorkflowContext
from interlock.actors.activation import Activation
from interlock.actors.definitions import WorkflowDefinition
from interlock.cli.story import item_lines
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import Diverged, TaskFailed
from interlock.schemas.frames import Command, Start, tagged
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="inbox.go", version="1.0.0"):
    value: int = 1


class Gone(Message, contract="inbox.gone", version="1.0.0"):
    said: str


def versions() -> tuple[App, App, Callable[[], list[str]]]:
    """An app, another version of it that asks other things, and what the agent was asked."""
    asked: list[str] = []

    def make_version(name: str) -> App:
        app = App("changing")

        @app.agent("echo", version="1.0.0")
        async def echo(request: Go, ctx: AgentContext) -> Gone:
            asked.append(f"{name} {request.value}")
            return Gone(said=str(request.value))

        @app.workflow("flow", version="1.0.0", escalate=Escalate(to="ops", seconds=500))
        async def flow(request: Go, ctx: WorkflowContext) -> Gone:
            await ctx.ask(Go(value=1 if name == "old" else 2), returns=Gone)
            await ctx.sleep(20)
            return await ctx.ask(Go(value=3), returns=Gone)

        return app

    return make_version("old"), make_version("new"), lambda: asked


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_task_whose_code_changed_sends_nothing_and_asks_a_human(decision: str) -> None:
    old, new, asked = versions()

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")
        await asyncio.sleep(5)
        await sim.deploy(new)
        sim.crash_peer(*sim.living("runner"))
        sim.crash_engine()
        await asyncio.sleep(30)
        assert asked() == ["old 1"]
        assert "tsk_a" in sim.engine.parking, "whoever waits for a human leaves memory"
        assert [row["task"] for row in await sim.bus.tasks(state="diverged")] == ["tsk_a"]
        (found,) = await sim.bus.inbox.list()
        assert (found["kind"], "inbox.go 1.0.0" in found["text"]) == ("diverged", True)
        one, two = ({"kind": "ask", "contract": "inbox.go 1.0.0", "returns": ["inbox.gone 1.0.0"], "data": {"value": n}} for n in (1, 2))
        assert decode(found["details"]) == {"command": 1, "recorded": one, "now": two}
        assert (
            '    now = {"contract": "inbox.go 1.0.0", "data": {"value": 2}, "kind": "ask", "returns": ["inbox.gone 1.0.0"]}'
            in item_lines(found)
        )
        facts = [entry.open() for entry in sim.store.reader.entries("tsk_a")]
        assert [fact.n for fact in facts if isinstance(fact, e.MessageSent)] == [1]
        if decision == "deny":
            await sim.bus.inbox.deny(found["item"])
            with pytest.raises(TaskFailed, match="ended as failed: diverged:"):
                await task.result()
            return
        await sim.deploy(old)
        sim.crash_peer(*sim.living("runner"))
        await asyncio.sleep(3)
        await sim.bus.inbox.approve(found["item"])
        assert (await task.result()).said == "3"
        assert await sim.bus.tasks(state="diverged") == []
        await sim.bus.verify()

    simulate(main, old)


# --- both sides --------------------------------------------------------------------------------------------------------------------------


async def asking(request: Go, ctx: WorkflowContext) -> Gone:
    return await ctx.ask(Go(value=2), returns=Gone)


def ask_of(n: int, value: Any) -> Command:
    return Command(n, "ask", "inbox.go", "1.0.0", encode({"value": value}), ["inbox.gone 1.0.0"])


def sides(*history: Command) -> dict[str, Any]:
    activation = Activation(WorkflowDefinition("w", "1.0.0", asking, Go, Gone), Start("tsk_a", "w", b"{}", 0, []))
    with pytest.raises(Diverged) as caught:
        activation.replay([tagged(command) for command in history])
    shown: dict[str, Any] = caught.value.sides
    return shown


def test_both_sides_of_a_divergence_are_shown_and_a_very_long_one_is_cut() -> None:
    ask = {"kind": "ask", "contract": "inbox.go 1.0.0", "returns": ["inbox.gone 1.0.0"], "data": {"value": 2}}
    slept = Command(1, "sleep", "", "", b"5.0", [])
    assert sides(slept) == {"command": 1, "recorded": {"kind": "sleep", "data": 5.0}, "now": ask}
    assert sides(ask_of(1, 2), ask_of(2, 4)) == {"command": 2, "recorded": {**ask, "data": {"value": 4}}, "now": None}
    cancelled = sides(ask_of(1, 2), Command(1, "cancel", "", "", b"null", []))
    assert cancelled == {"command": 1, "recorded": {"kind": "cancel"}, "now": ask}
    assert len(sides(ask_of(1, "x" * 100_000))["recorded"]["data"]) < 21_000
