"""The app of the benchmarks about tasks that live long: they wait for a human, a timer, a message, or a slow agent."""

import asyncio

from interlock import AgentContext, App, Budget, Escalate, Message, WorkflowContext

DAY = 86_400
PARKED = ("human", "sleep", "receive")
"""The ways to wait that leave memory."""


class Wait(Message, contract="bench.wait", version="1.0.0"):
    how: str
    said: str


class Word(Message, contract="bench.word", version="1.0.0"):
    said: str


class Hard(Message, contract="bench.hard", version="1.0.0"):
    said: str


def make_app() -> App:
    """One workflow that waits as it is asked to, an agent that answers at once, and one that takes a day."""
    app = App("waiting")

    @app.agent("echo", version="1.0.0", concurrency=1000)
    async def echo(request: Wait, ctx: AgentContext) -> Word:
        return Word(said=request.said)

    @app.agent("slow", version="1.0.0", concurrency=50_000)
    async def slow(request: Hard, ctx: AgentContext) -> Word:
        await asyncio.sleep(DAY)
        return Word(said=request.said)

    budget = Budget(tokens=1, steps=10, seconds=2 * DAY)

    @app.workflow("wait", version="1.0.0", budget=budget, escalate=Escalate(to="nobody", seconds=DAY), receives=(Word,))
    async def wait(request: Wait, ctx: WorkflowContext) -> Word:
        word = await ctx.ask(request, returns=Word)
        if request.how == "human":
            await ctx.ask_human("Shall it go on?", said=word.said)
        elif request.how == "sleep":
            await ctx.sleep(DAY)
        elif request.how == "receive":
            word = await ctx.receive(Word)
        elif request.how == "agent":
            word = await ctx.ask(Hard(said=word.said), returns=Word)
        while request.how == "ticks":
            await ctx.sleep(4)
        return word

    return app


app = make_app()


def request(how: str) -> Wait:
    """About 300 bytes of JSON."""
    return Wait(how=how, said="x" * 250)
