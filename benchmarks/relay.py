"""The app that the hop benchmark runs: one message goes through four code agents in a row."""

from interlock import AgentContext, App, Budget, Message, WorkflowContext

STAGES = 4


class File(Message):
    path: str
    diff: str


class Parcel(Message, contract="bench.parcel", version="1.0.0"):
    goal: str
    stages: int
    files: list[File]


def _stage(number: int) -> tuple[type[Message], type[Message]]:
    """The request and reply contracts of one stage, shaped alike and named apart."""
    fields = {"__annotations__": {"goal": str, "files": list[File]}, "__module__": __name__}
    request = type(Message)(f"Request{number}", (Message,), dict(fields), contract=f"bench.request{number}", version="1.0.0")
    reply = type(Message)(f"Reply{number}", (Message,), dict(fields), contract=f"bench.reply{number}", version="1.0.0")
    return request, reply


CONTRACTS = [_stage(number) for number in range(1, STAGES + 1)]


def make_app() -> App:
    """Four specialists that pass on what they get, and the workflow that asks one after another."""
    app = App("relay")
    for number, (request_class, reply_class) in enumerate(CONTRACTS, 1):
        _declare(app, number, request_class, reply_class)

    @app.workflow("relay", version="1.0.0", budget=Budget(tokens=1, steps=1, seconds=600))
    async def relay(request: Parcel, ctx: WorkflowContext) -> Parcel:
        files = request.files
        for request_class, reply_class in CONTRACTS[: request.stages]:
            reply = await ctx.ask(request_class(goal=request.goal, files=files), returns=reply_class)
            files = reply.files
        return Parcel(goal=request.goal, stages=0, files=files)

    return app


def _declare(app: App, number: int, request_class: type[Message], reply_class: type[Message]) -> None:
    @app.agent(f"stage{number}", version="1.0.0", accepts=request_class, returns=reply_class, concurrency=1000)
    async def stage(request: Message, ctx: AgentContext) -> Message:
        return reply_class(goal=request.goal, files=request.files)


app = make_app()


def parcel(stages: int = STAGES) -> Parcel:
    """About 700 bytes of JSON, to go through so many stages."""
    return Parcel(goal="pass it on", stages=stages, files=[File(path="a.py", diff="x" * 300), File(path="b.py", diff="y" * 300)])
