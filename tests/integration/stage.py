"""The app on which actors are killed and tasks stopped: agents that let go, that do not, and that have children; and its bus.

Each test that kills an actor leaves a whole bus behind, for whoever is killed is replaced: so one bus serves them all.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import ray

from interlock import AgentContext, App, Budget, Bus, Message, Natural, Never, ToolContext, WorkflowContext
from interlock.actors import board as boards
from interlock.launch import run_dir
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.settings import ModelSettings


class Stage(NamedTuple):
    """A bus called `name` with its files in `home`. `pools`: who was there as soon as it had started."""

    bus: Bus
    name: str
    home: Path
    pools: dict[str, list[str]]

    def actor(self, name: str) -> Any:
        return ray.get_actor(name, namespace=self.name)

    def process(self, actor: str) -> int:
        """The process id of the orchestrator or the supervisor, once it works."""
        get: Any = ray.get
        return int(get(self.actor(actor).ping.remote())[1])

    def board(self, incarnation: str) -> int | None:
        """The process id of a runner or a replica, as its board says."""
        view = boards.read(run_dir(self.home, self.name) / f"{incarnation}.board")
        return None if view is None else view.owner.pid

    def member(self, pool: str) -> int:
        """The process id of a pool's only member; one that was killed before may not have its successor yet."""

        def alone() -> str | None:
            members: list[str] = self.bus.status()["pools"].get(pool, [])
            return members[0] if len(members) == 1 else None

        return int(until(lambda: (name := alone()) and self.board(name)))


@contextmanager
def on_stage(app: App, folder: Path, model: ModelSettings | None = None) -> Iterator[Stage]:
    """The app on a bus of its own, called like the app."""
    with Bus.start(app, model=model, folder=folder, name=app.name) as bus:
        yield Stage(bus, app.name, folder, bus.status()["pools"])


def start(stage: Stage, how: str, folder: Path, tenant: str = DEFAULT_TENANT, **limits: Any) -> Any:
    """A task whose agent notes in the folder that it has started."""
    folder.mkdir(exist_ok=True)
    return stage.bus.submit_json("job", {"how": how, "folder": str(folder)}, limits=limits, tenant=tenant)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something outside this process that announces nothing."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return value


def read(file: Path) -> int:
    return int(until(lambda: file.exists() and file.read_text()))


class Job(Message, contract="stage.job", version="1.0.0"):
    how: str
    folder: str


class Stubborn(Message, contract="stage.stubborn", version="1.0.0"):
    folder: str


class Waiting(Message, contract="stage.waiting", version="1.0.0"):
    folder: str
    how: str = ""


class Child(Message, contract="stage.child", version="1.0.0"):
    folder: str


class Guarded(Message, contract="stage.guarded", version="1.0.0"):
    hang: bool = False


class News(Message, contract="stage.news", version="1.0.0"):
    text: str


class Done(Message, contract="stage.done", version="1.0.0"):
    pid: int


async def told_to_go(folder: Path) -> None:
    """Wait for a file that says so; another one ends the process."""
    if (folder / "poison").exists():
        os._exit(3)
    while not (folder / "go").exists():  # noqa: ASYNC110 - it waits for a file
        await asyncio.sleep(0.05)


async def listener(request: Guarded, ctx: WorkflowContext) -> News:
    return News(text=f"{(await ctx.receive(News)).text} {(await ctx.receive(News)).text}")


def note(folder: str, name: str) -> None:
    (Path(folder) / name).write_text(str(os.getpid()))


def declare_waiting(app: App) -> tuple[Any, Any]:
    """An agent that waits until it is told to go; it may leave something before, and may not let go when it is asked to. The tools by which
    that is left and taken away."""

    @app.tool(effect="write", system="host", repeat=Natural("folder"))
    async def leave(folder: str) -> bool:
        """Leave something in the folder.

        Args:
            folder: The folder.
        """
        note(folder, "left")
        return True

    @app.tool(effect="write", system="host", repeat=Natural("folder"))
    async def take(folder: str) -> bool:
        """Take it away again.

        Args:
            folder: The folder.
        """
        (Path(folder) / "left").unlink()
        return True

    @app.agent("waiting", version="1.0.0", tools=[leave, take])
    async def waiting(request: Waiting, ctx: AgentContext) -> Done:
        if request.how == "leave":
            await ctx.call(leave, folder=request.folder)
        note(request.folder, "started")
        while request.how == "swallow":
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(600)
        await told_to_go(Path(request.folder))
        return Done(pid=os.getpid())

    return leave, take


def make_app() -> App:
    app = App("stage")

    @app.agent("stubborn", version="1.0.0")
    async def stubborn(request: Stubborn, ctx: AgentContext) -> Done:
        note(request.folder, "started")
        deque(repeat(0), maxlen=0)  # for ever, and nobody else in the process gets a turn
        raise AssertionError

    leave, take = declare_waiting(app)

    @app.tool(effect="write", system="host", repeat=Never(), timeout=600)
    async def spawn(folder: str, ctx: ToolContext) -> int:
        """Start a child that ignores SIGTERM in a session of its own, and wait for it."""
        script = (
            "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid() if os.getpid() != os.getsid(0) else None; "
        )
        script += "open('child', 'w').write(str(os.getpid())); time.sleep(600)"
        process = await asyncio.create_subprocess_exec("python3", "-c", script, cwd=folder)
        return await process.wait()

    @app.agent("parent", version="1.0.0", tools=[spawn])
    async def parent(request: Child, ctx: AgentContext) -> Done:
        note(request.folder, "started")
        return Done(pid=await ctx.call(spawn, folder=request.folder))

    @app.workflow("job", version="1.0.0", budget=Budget(seconds=300, writes={"host": 5}))
    async def job(request: Job, ctx: WorkflowContext) -> Done:
        asks: dict[str, Message] = {
            "stubborn": Stubborn(folder=request.folder),
            **{how: Waiting(folder=request.folder, how=how) for how in ("waiting", "swallow", "leave")},
            "child": Child(folder=request.folder),
        }
        if request.how == "leave":
            ctx.on_undo(take, leave, folder=request.folder)
        return await ctx.ask(asks[request.how], returns=Done)

    app.workflow("listener", version="1.0.0", receives=(News,))(listener)

    def ends(request: Guarded) -> bool:
        while request.hang:
            pass
        return True

    @app.workflow("guarded", version="1.0.0", entry=ends)
    async def guarded(request: Guarded, ctx: WorkflowContext) -> Guarded:
        return request

    return app
