"""Each way in which a conversation ends, on a local bus, as a person is shown it: a loop, a drift, and one that is only long."""

import asyncio
from typing import Any

from interlock import App, Budget, Conversation, Message, WorkflowContext
from interlock.actors.models.wire import Endpoint
from interlock.aio import AsyncBus, AsyncTask
from interlock.cli.story import story
from interlock.local import start
from interlock.schemas.record import Outcome
from interlock.settings import ModelSettings
from interlock.testing.scripted_wire import ScriptedWire
from interlock.tools.tool import declare


class Find(Message, contract="talk.find", version="1.0.0"):
    what: str


class Found(Message, contract="talk.found", version="1.0.0"):
    where: str


def seek(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "nothing " * 300


def calls(page: int, **fits: Any) -> dict[str, Any]:
    return {**fits, "answer": {"tool_calls": [{"name": "seek", "arguments": {"page": page}}]}}


OFF = {"progress": "poems", "left": "more poems", "on_goal": False}
PLAYBOOK = {
    "rules": [
        {"self_check": True, "user_json": {"/what": "poems"}, "answer": {"json": OFF}},
        calls(7, user_json={"/what": "circles"}),
        *(calls(n, turns=n) for n in range(9)),
        {"answer": {"json": {"where": "here"}}},
    ]
}


def finding() -> App:
    app = App("finding")
    bounds = Conversation(window="8KB", check_every=4)
    tools = (declare(seek, effect="read"),)
    app.agent("finder", version="1.0.0", accepts=Find, returns=Found, tools=tools, instructions="You find.", conversation=bounds)

    @app.workflow("flow", version="1.0.0", goal="Find {what}", budget=Budget(tokens=None))
    async def flow(request: Find, ctx: WorkflowContext) -> Found:
        return await ctx.ask(request, returns=Found)

    return app


async def told(bus: AsyncBus, app: App, what: str) -> tuple[Any, str]:
    """The run record of a task that has ended, and its story."""
    task: AsyncTask[Any] = await bus.submit(app.workflows["flow"], Find(what=what))
    await task.outcome()
    record = await task.record()
    return record, "\n".join(story(record, await task.entries(), []))


def test_every_ending_is_shown() -> None:
    async def main() -> None:
        app, endpoint = finding(), Endpoint("http://scripted.invalid/v1", "none")
        bus = await start(app, model=ModelSettings(model="m", api_key="k"), wire=ScriptedWire(PLAYBOOK, endpoint))
        async with bus:
            circles, drifted, long = await asyncio.gather(*(told(bus, app, what) for what in ("circles", "poems", "keys")))
        assert circles[0].outcome is drifted[0].outcome is Outcome.FAILED
        assert 'loop detected: agent finder asked the same and heard the same 3 times: seek({"page":7}) → seek({"page":7})' in circles[1]
        assert "drifted: agent finder was not on its goal in 2 self-checks in a row, the last one after 8 steps (poems" in drifted[1]
        assert "finder    self-check after 8 steps: it is off its goal" in drifted[1]
        assert long[0].outcome is Outcome.SUCCESS
        assert long[0].self_checks == 4
        assert long[0].folds >= 1
        assert "made room in its context: cut" in long[1]
        assert "oldest messages into a note" in long[1]

    asyncio.run(main())
