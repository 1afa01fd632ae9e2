"""The law of replay: whatever a workflow does with asyncio, its record replayed up to any point gives the same commands.

Random programs run live against a small engine that records like the real one: events are committed in any order, reach the runner
late, a cancellation that comes too late is not recorded, and messages come in from outside whenever they like.
"""

import asyncio
from collections import deque
from contextlib import closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.actors.runner import Runner
from interlock.schemas.canonical import encode
from interlock.schemas.errors import AgentFailed, InterlockError
from interlock.schemas.frames import Command, Happened, Start, tagged, untagged
from interlock.schemas.message import Message

TASK = "tsk_law"
EVENTS_AT_MOST = 24


class Text(Message, contract="law.text", version="1.0.0"):
    text: str


# --- programs ---------------------------------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3)),
    st.tuples(st.just("sleep"), st.sampled_from([0, 0.5, 2, 60])),
    st.tuples(st.just("human")),
    st.tuples(st.just("draw")),
    st.tuples(st.just("receive")),
)


def _branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["sequence", "gather", "strict", "first", "broken", "group", "star"]), several),
        st.tuples(st.sampled_from(["set", "gathers", "completed", "queue", "lock", "condition"]), several),
        st.tuples(st.sampled_from(["timeout", "wait_for", "late"]), st.sampled_from([0, 1, 30]), inner),
        st.tuples(st.sampled_from(["cancel", "shield", "attempt", "event", "stubborn"]), inner, inner),
    )


PROGRAMS = st.recursive(LEAVES, _branches, max_leaves=8)


class Interpreter:
    """Runs a program; everything that could differ between two runs ends up in a command or in the result."""

    def __init__(self, ctx: WorkflowContext) -> None:
        self.ctx = ctx

    async def run(self, program: Any) -> str:
        name, *rest = program
        result: str = await getattr(self, name)(*rest)
        return result

    def task(self, program: Any) -> "asyncio.Task[str]":
        return asyncio.create_task(self.run(program))

    async def ask(self, number: int) -> str:
        return (await self.ctx.ask(Text(text=f"{number} at {self.ctx.now():%H:%M:%S}"), returns=Text)).text

    async def sleep(self, seconds: float) -> str:
        await (asyncio.sleep(seconds) if seconds == 2 else self.ctx.sleep(seconds))
        return "slept"

    async def human(self) -> str:
        return str(await self.ctx.ask_human("?"))

    async def draw(self) -> str:
        return f"{self.ctx.random().random()} {self.ctx.uuid()}"

    async def receive(self) -> str:
        return f"{(await self.ctx.receive(Text)).text} at {self.ctx.now():%H:%M:%S}"

    async def sequence(self, programs: list[Any]) -> str:
        return ",".join([await self.run(program) for program in programs])

    async def gather(self, programs: list[Any]) -> str:
        return str(await asyncio.gather(*map(self.run, programs), return_exceptions=True))

    async def strict(self, programs: list[Any]) -> str:
        return str(await asyncio.gather(*map(self.run, programs)))

    async def broken(self, programs: list[Any]) -> str:
        done, pending = await asyncio.wait(set(map(self.task, programs)), return_when=asyncio.FIRST_EXCEPTION, timeout=90)
        for task in pending:
            task.cancel()
        return str(await asyncio.gather(*done, *pending, return_exceptions=True))

    async def star(self, programs: list[Any]) -> str:
        told = ""
        try:
            return await self.group(programs)
        except* AgentFailed as errors:
            told = str([str(error) for error in errors.exceptions])
        return f"{told} {await self.ask(7)}"

    async def first(self, programs: list[Any]) -> str:
        done, pending = await asyncio.wait(set(map(self.task, programs)), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return str(await asyncio.gather(*done, *pending, return_exceptions=True))

    async def group(self, programs: list[Any]) -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(program)) for program in programs]
        return str([task.result() for task in tasks])

    async def set(self, programs: list[Any]) -> str:
        done, _ = await asyncio.wait(set(map(self.task, programs)))
        return str([(repr(task.exception() or task.result()), await self.ask(9)) for task in done])

    async def gathers(self, programs: list[Any]) -> str:
        many = {asyncio.gather(self.run(program), asyncio.sleep(0), return_exceptions=True) for program in programs}
        done, _ = await asyncio.wait(many)
        return str([(str(gathered.result()), await self.ask(6)) for gathered in done])

    async def completed(self, programs: list[Any]) -> str:
        heard = []
        for task in asyncio.as_completed(set(map(self.task, programs)), timeout=50):
            try:
                heard.append(await task)
            except (InterlockError, ExceptionGroup, TimeoutError) as error:
                heard.append(str(error))
        return str(heard)

    async def queue(self, programs: list[Any]) -> str:
        queue: asyncio.Queue[str] = asyncio.Queue(1)

        async def work(program: Any) -> None:
            await queue.put(await self.run(program))

        workers = [asyncio.create_task(work(program)) for program in programs]
        try:
            async with asyncio.timeout(45):
                return str([await queue.get() for _ in workers])
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def lock(self, programs: list[Any]) -> str:
        """Two at a time, and of these one after the other."""
        lock, two = asyncio.Lock(), asyncio.Semaphore(2)

        async def work(program: Any) -> str:
            async with two:
                await asyncio.sleep(0.5)
                async with lock:
                    return await self.run(program)

        return str(await asyncio.gather(*map(work, programs), return_exceptions=True))

    async def condition(self, programs: list[Any]) -> str:
        """Who is done says so; one waits until all have."""
        changed, done = asyncio.Condition(), list[str]()

        async def work(program: Any) -> None:
            try:
                await self.run(program)
            finally:
                async with changed:
                    done.append(str(program))
                    changed.notify_all()

        workers = [asyncio.create_task(work(program)) for program in programs]
        async with changed:
            await changed.wait_for(lambda: len(done) == len(workers))
        return f"{done} {await asyncio.gather(*workers, return_exceptions=True)}"

    async def event(self, program: Any, otherwise: Any) -> str:
        """The second begins when the first has come to its end, whatever that is."""
        over = asyncio.Event()

        async def then() -> str:
            await over.wait()
            return await self.run(otherwise)

        waiting = asyncio.create_task(then())
        try:
            told = await self.run(program)
        finally:
            over.set()
        return f"{told} {await waiting}"

    async def wait_for(self, seconds: float, program: Any) -> str:
        try:
            return await asyncio.wait_for(self.run(program), seconds)
        except TimeoutError:
            return f"late {await self.ask(5)}"

    async def late(self, seconds: float, program: Any) -> str:
        """A timeout that is moved while it runs."""
        async with asyncio.timeout(None) as limit:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)
            return await self.run(program)

    async def stubborn(self, program: Any, meanwhile: Any) -> str:
        """What is cancelled does something else first."""

        async def work() -> str:
            try:
                return await self.run(program)
            except asyncio.CancelledError:
                await self.run(meanwhile)
                raise

        task = asyncio.create_task(work())
        await self.ctx.sleep(1)
        task.cancel("enough")
        return str(await asyncio.gather(task, return_exceptions=True))

    async def timeout(self, seconds: float, program: Any) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await self.run(program)
        except TimeoutError:
            return f"late {await self.ask(8)}"

    async def cancel(self, program: Any, meanwhile: Any) -> str:
        task = self.task(program)
        try:
            told = await self.run(meanwhile)
        finally:
            task.cancel()
        return f"{told} {await asyncio.gather(task, return_exceptions=True)}"

    async def shield(self, program: Any, meanwhile: Any) -> str:
        inner = self.task(program)
        outer = asyncio.ensure_future(asyncio.shield(inner))
        await asyncio.sleep(0)
        outer.cancel()
        told = await asyncio.gather(self.run(meanwhile), return_exceptions=True)
        return f"{told} {await inner}"

    async def attempt(self, program: Any, otherwise: Any) -> str:
        try:
            return await self.run(program)
        except (InterlockError, ExceptionGroup, TimeoutError) as error:
            return f"{error} {await self.run(otherwise)}"


def runner_of(program: Any) -> Runner:
    async def workflow(request: Text, ctx: WorkflowContext) -> Text:
        return Text(text=await Interpreter(ctx).run(program))

    return Runner({"law": WorkflowDefinition("law", "1.0.0", workflow, Text, Text, receives=(Text,))})


def give(runner: Runner, frame: Any) -> list[Command]:
    runner.take(frame)
    answer = runner._outbox.pop()
    assert not runner._outbox
    assert answer.diverged == b"", answer.diverged
    return [untagged(wire) for wire in answer.commands]


# --- a small engine ---------------------------------------------------------------------------------------------------


class Engine:
    """Runs a program live; `record` is what the ledger has, `made[k]` what the workflow commanded after event k."""

    def __init__(self, program: Any, choose: Any) -> None:
        self.record: list[Any] = []
        self.made: list[list[Command]] = []
        self._choose = choose
        self._open: dict[int, str] = {}
        self._committed: deque[Happened] = deque()
        self._events = 0
        posts = choose(st.integers(0, 4))
        with closing(runner_of(program)) as runner:
            self._carry_out(give(runner, start([])))
            while self._committed or ((self._open or posts) and self._events < EVENTS_AT_MOST):
                quiet = (not self._open and not posts) or self._events >= EVENTS_AT_MOST
                if self._committed and (quiet or choose(st.booleans())):
                    self._carry_out(give(runner, self._committed.popleft()))
                elif posts and (not self._open or choose(st.booleans())):
                    posts -= 1
                    self._happen(0, "message", {"text": f"m{posts}"})
                else:
                    self._commit(choose(st.sampled_from(sorted(self._open))))

    def _carry_out(self, commands: list[Command]) -> None:
        self.made.append(commands)
        for command in commands:
            if command.kind == "cancel":
                if self._open.pop(command.n, None) is not None:
                    self.record.append(command)
            elif command.n:
                self._open[command.n] = command.kind
                self.record.append(command)
            else:
                self._open.clear()

    def _commit(self, n: int) -> None:
        self._happen(n, *{"ask": self._reply, "sleep": lambda n: ("timer", None), "human": self._answer}[self._open.pop(n)](n))

    def _happen(self, n: int, kind: str, value: Any) -> None:
        self._events += 1
        at = self._events * self._choose(st.sampled_from([1, 1_000_000, 40_000_000]))
        contract = ("law.text", "1.0.0") if kind in ("reply", "message") else ()
        event = Happened(TASK, self._events, n, kind, encode(value), at, b"", *contract)
        self._committed.append(event)
        self.record.append(event)

    def _reply(self, n: int) -> tuple[str, Any]:
        if self._choose(st.integers(0, 4)) == 0:
            return "failure", AgentFailed(agent="a", contract="law.text", problem=f"no {n}").to_wire()
        return "reply", {"text": f"r{n}"}

    def _answer(self, n: int) -> tuple[str, Any]:
        return "answer", {"approved": bool(n % 2), "note": "", "by": "ada"}


def start(history: list[Any]) -> Start:
    return Start(TASK, "law", b'{"text":""}', 0, [tagged(frame) for frame in history])


@settings(max_examples=200)
@given(program=PROGRAMS, data=st.data())
def test_a_replay_of_any_part_of_the_record_gives_the_same_commands(program: Any, data: st.DataObject) -> None:
    """And whatever is left in memory goes without a sound: pytest makes any noise of it an error."""
    live = Engine(program, data.draw)
    events = [frame for frame in live.record if isinstance(frame, Happened)]
    for cut in range(len(live.record) + 1):
        history = live.record[:cut]
        recorded = [frame for frame in history if isinstance(frame, Command)]
        seen = len(history) - len(recorded)
        expected = [command for batch in live.made[: seen + 1] for command in batch if command not in recorded]
        with closing(runner_of(program)) as again:
            assert give(again, start(history)) == expected
            assert [give(again, event) for event in events[seen:]] == live.made[seen + 1 :]
