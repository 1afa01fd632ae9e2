"""The deterministic loop: what works as in asyncio, what is the same in every process, what is refused."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from desktop import FAILURE, Desktop, ask, kinds

from interlock.actors.context import WorkflowContext
from interlock.actors.replay import ReplayLoop
from interlock.schemas.errors import Unsupported
from interlock.schemas.frames import Command

# --- asyncio as one knows it ------------------------------------------------------------------------------------------


def test_sleep_is_durable_however_it_is_written() -> None:
    async def workflow(ctx: WorkflowContext) -> float:
        await asyncio.sleep(0)
        await asyncio.sleep(5)
        await ctx.sleep(0.25)
        return asyncio.get_running_loop().time()

    bench = Desktop(workflow)
    assert bench.commands == [Command(1, "sleep", "", "", b"5.0", [])]
    assert bench.happen(1, "timer", seconds=5.5) == [Command(2, "sleep", "", "", b"0.25", [])]
    assert bench.happen(2, "timer", seconds=6) == []
    assert bench.main.result() == 6.0


def test_a_timeout_that_is_not_needed_is_cancelled() -> None:
    async def workflow(ctx: WorkflowContext) -> str:
        async with asyncio.timeout(10):
            return await ask(ctx)

    bench = Desktop(workflow)
    assert kinds(bench.commands) == [(1, "sleep"), (2, "ask")]
    assert bench.commands[0].data == b"10.0"
    assert bench.reply(2) == [Command(1, "cancel", "", "", b"null", [])]
    assert bench.main.result() == "yes"


@pytest.mark.parametrize("how", ["timeout", "wait_for"])
def test_a_timeout_that_comes_cancels_what_it_waits_for(how: str) -> None:
    async def workflow(ctx: WorkflowContext) -> str:
        try:
            if how == "wait_for":
                return await asyncio.wait_for(ask(ctx), 10)
            async with asyncio.timeout(10):
                return await ask(ctx)
        except TimeoutError:
            return "late"

    bench = Desktop(workflow)
    timer, question = (1, 2) if bench.commands[0].kind == "sleep" else (2, 1)
    assert kinds(bench.happen(timer, "timer", seconds=10)) == [(question, "cancel")]
    assert bench.main.result() == "late"
    assert bench.reply(question) == [], "a reply to what was cancelled is not looked at"


def test_gather_wait_and_shield() -> None:
    async def workflow(ctx: WorkflowContext) -> list[Any]:
        both = await asyncio.gather(ask(ctx, "a"), ask(ctx, "b"))
        tasks = [asyncio.create_task(ask(ctx, text)) for text in "cde"]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        outer = asyncio.shield(kept := asyncio.create_task(ask(ctx, "f")))
        outer.cancel()
        return [*both, [task.result() for task in done], await kept]

    bench = Desktop(workflow)
    assert kinds(bench.commands) == [(1, "ask"), (2, "ask")]
    assert bench.reply(2, "B") == []
    assert kinds(bench.reply(1, "A")) == [(3, "ask"), (4, "ask"), (5, "ask")]
    assert sorted(kinds(bench.reply(4, "D"))) == [(3, "cancel"), (5, "cancel"), (6, "ask")]
    bench.reply(6, "F")
    assert bench.main.result() == ["A", "B", ["D"], "F"]


def test_wait_with_a_timeout() -> None:
    async def workflow(ctx: WorkflowContext) -> int:
        _, pending = await asyncio.wait([asyncio.create_task(ask(ctx))], timeout=3)
        return len(pending)

    bench = Desktop(workflow)
    assert sorted(kinds(bench.commands)) == [(1, "sleep"), (2, "ask")]
    bench.happen(1, "timer", seconds=3)
    assert bench.main.result() == 1


def test_a_failing_task_group_cancels_the_others() -> None:
    async def workflow(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                for text in "abc":
                    group.create_task(ask(ctx, text))
        except ExceptionGroup as errors:
            return str(len(errors.exceptions))
        return "never"

    bench = Desktop(workflow)
    assert kinds(bench.happen(2, "failure", FAILURE.to_wire())) == [(1, "cancel"), (3, "cancel")]
    assert bench.main.result() == "1"


def test_queues_locks_and_events_work() -> None:
    async def workflow(ctx: WorkflowContext) -> list[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(1)
        lock, heard = asyncio.Lock(), list[str]()

        async def put(text: str) -> None:
            async with lock:
                await queue.put(await ask(ctx, text))

        tasks = [asyncio.create_task(put(text)) for text in "ab"]
        while len(heard) < 2:
            heard.append(await queue.get())
        await asyncio.gather(*tasks)
        return heard

    bench = Desktop(workflow)
    assert kinds(bench.reply(1, "A")) == [(2, "ask")], "the lock holds the second back"
    bench.reply(2, "B")
    assert bench.main.result() == ["A", "B"]


def test_as_completed_takes_tasks() -> None:
    async def workflow(ctx: WorkflowContext) -> list[str]:
        return [await next_one for next_one in asyncio.as_completed([asyncio.create_task(ask(ctx, text)) for text in "ab"])]

    bench = Desktop(workflow)
    bench.reply(2, "B")
    bench.reply(1, "A")
    assert bench.main.result() == ["B", "A"]


def test_context_variables_belong_to_their_task() -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def child(ctx: WorkflowContext, value: str) -> tuple[str, str]:
        before = variable.get()
        variable.set(value)
        await ask(ctx)
        return before, variable.get()

    async def workflow(ctx: WorkflowContext) -> list[Any]:
        outer = variable.get()
        variable.set("main")
        return [outer, *await asyncio.gather(child(ctx, "a"), child(ctx, "b"))]

    variable.set("of the host")
    bench = Desktop(workflow)
    bench.reply(1)
    bench.reply(2)
    assert bench.main.result() == ["none", ("main", "a"), ("main", "b")]


def test_an_abandoned_async_generator_is_closed_inside_its_own_loop() -> None:
    async def workflow(ctx: WorkflowContext) -> list[str]:
        told: list[str] = []

        async def numbers() -> Any:
            try:
                yield 1
                yield 2
            finally:
                told.append(f"closed in {type(asyncio.get_running_loop()).__name__}")

        async for _ in numbers():
            break
        await ask(ctx)
        return told

    async def host() -> list[str]:
        bench = Desktop(workflow)
        await asyncio.sleep(0)
        bench.reply(1)
        result: list[str] = bench.main.result()
        return result

    assert asyncio.run(host()) == ["closed in ReplayLoop"]


def test_the_host_loop_and_task_are_as_before() -> None:
    seen: list[Any] = []

    async def workflow(ctx: WorkflowContext) -> None:
        seen.append((asyncio.get_running_loop(), asyncio.current_task(), asyncio.all_tasks()))

    async def host() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        bench = Desktop(workflow)
        assert seen == [(bench.loop, bench.main, set())]
        assert (asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()) == (loop, task, hooks)
        await asyncio.sleep(0)

    asyncio.run(host())


# --- the same everywhere ----------------------------------------------------------------------------------------------


SETS = """
    import asyncio, random, sys
    junk = [bytearray(random.Random().randrange(4000)) for _ in range(500)]
    from interlock.actors.activation import Activation
    from interlock.actors.definitions import WorkflowDefinition
    from interlock.schemas.frames import Start
    from interlock.schemas.message import Message

    class Text(Message, contract="test.text", version="1.0.0"):
        text: str

    async def name(text, delay):
        junk.append(bytearray(random.Random().randrange(4000)))
        for _ in range(delay):
            await asyncio.sleep(0)
        return text

    async def workflow(request, ctx):
        done, _ = await asyncio.wait({asyncio.create_task(name(str(i), i % 7)) for i in range(200)})
        futures = {}
        for number in range(200):
            junk.append(bytearray(random.Random().randrange(4000)))
            futures[asyncio.get_running_loop().create_future()] = str(number)
        names = [task.result() for task in done] + [futures[future] for future in set(futures)]
        return Text(text=" ".join(names))

    definition = WorkflowDefinition("sets", "1.0.0", workflow, Text, Text)
    print(Activation(definition, Start("tsk_sets", "sets", b'{"text":""}', 0, [])).begin())
"""


def test_sets_of_tasks_iterate_alike_in_every_process() -> None:
    def run(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", textwrap.dedent(SETS)], env=env, check=True, capture_output=True, text=True).stdout

    one, other = run("1"), run("2")
    assert "done" in one
    assert one == other


# --- refused ----------------------------------------------------------------------------------------------------------

LOOP = asyncio.get_running_loop
REFUSED: dict[str, Callable[[], Any]] = {
    "an executor": lambda: LOOP().run_in_executor(None, print),
    "a call from a thread": lambda: LOOP().call_soon_threadsafe(print),
    "a signal handler": lambda: LOOP().add_signal_handler(signal.SIGTERM, print),
    "a reader": lambda: LOOP().add_reader(0, print),
    "a server": lambda: LOOP().create_server(asyncio.Protocol),
    "a name": lambda: LOOP().getaddrinfo("localhost", 80),
    "a nested run": lambda: LOOP().run_until_complete(asyncio.Future()),
    "an endless timer": lambda: LOOP().call_later(float("inf"), print),
    "another task factory": lambda: LOOP().set_task_factory(None),
    "debug mode": lambda: LOOP().set_debug(True),
}
REFUSED_COROUTINES: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    "a thread": lambda: asyncio.to_thread(print),
    "a connection": lambda: asyncio.open_connection("localhost", 80),
    "a process": lambda: asyncio.create_subprocess_exec("true"),
    "an endless sleep": lambda: asyncio.sleep(float("inf")),
}


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_COROUTINES])
def test_what_cannot_be_replayed_is_refused_by_name(name: str) -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        if name in REFUSED:
            REFUSED[name]()
        else:
            await REFUSED_COROUTINES[name]()

    error = Desktop(workflow).main.exception()
    assert isinstance(error, Unsupported)
    assert "cannot be replayed inside a workflow. Use " in str(error)


def test_as_completed_of_coroutines_is_refused() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        for next_one in asyncio.as_completed([ask(ctx)]):
            await next_one

    bench = Desktop(workflow)
    assert isinstance(bench.main.exception(), Unsupported)
    assert bench.commands == []


DONE: dict[str, Callable[[], Any]] = {
    "call_soon": lambda: LOOP().call_soon(int),
    "call_later": lambda: LOOP().call_later(1, int),
    "call_at": lambda: LOOP().call_at(LOOP().time() + 1, int),
    "time": lambda: LOOP().time(),
    "create_future": lambda: LOOP().create_future(),
    "create_task": lambda: LOOP().create_task(asyncio.sleep(0)),
    "call_exception_handler": lambda: LOOP().call_exception_handler({"message": "said"}),
    "default_exception_handler": lambda: LOOP().default_exception_handler({"message": "said"}),
    "get_exception_handler": lambda: LOOP().get_exception_handler(),
    "get_task_factory": lambda: LOOP().get_task_factory(),
    "get_debug": lambda: LOOP().get_debug(),
    "is_running": lambda: LOOP().is_running(),
    "is_closed": lambda: LOOP().is_closed(),
}
METHODS = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_a_loop_is_done_or_refused_in_words(name: str) -> None:
    """Also those that a later Python adds: `METHODS` is asked of the Python that runs."""
    inherited = getattr(asyncio.AbstractEventLoop, name)

    async def workflow(ctx: WorkflowContext) -> None:
        assert getattr(ReplayLoop, name) is not inherited
        if name in DONE:
            DONE[name]()
        else:
            getattr(LOOP(), name)()

    error = Desktop(workflow).main.exception()
    if name in DONE:
        assert error is None
    else:
        assert isinstance(error, Unsupported)
        assert "`ctx." in str(error) or "`await ctx." in str(error)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_exception_that_nobody_looks_at_is_collected() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        async def breaks() -> None:
            raise ValueError("unseen")

        asyncio.create_task(breaks())
        await ask(ctx)

    bench = Desktop(workflow)
    bench.reply(1)
    bench.loop.detach()
    assert bench.loop.problems == ["WorkflowTask exception was never retrieved: ValueError: unseen"]


def test_system_exit_ends_the_workflow_not_the_process() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        sys.exit(3)

    bench = Desktop(workflow)
    assert isinstance(bench.main.exception(), SystemExit)
    assert bench.loop.problems == ["SystemExit in a workflow: SystemExit: 3"]


def test_many_tasks_leave_memory_when_they_are_done() -> None:
    async def nothing() -> None:
        pass

    async def workflow(ctx: WorkflowContext) -> None:
        for _ in range(1_000):
            await asyncio.create_task(nothing())
        await ask(ctx)

    assert len(Desktop(workflow).loop._tasks) <= 65
