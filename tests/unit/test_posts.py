"""Messages into a running task: received in order, kept meanwhile, durable, the same in every replay; and which of them are refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import App, Message, Untrusted, WorkflowContext
from interlock.orchestrator import posts
from interlock.orchestrator.state import fold
from interlock.schemas import entries as e
from interlock.schemas.errors import (
    BadDeclaration,
    InvalidMessage,
    MessageConflict,
    NotReceived,
    Refused,
    TaskOver,
    TooManyMessages,
    UnknownContract,
    UnknownTask,
)
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="post.go", version="1.0.0"):
    wanted: int


class Note(Message, contract="post.note", version="1.1.0"):
    text: str
    mail: Untrusted[str] = ""


class OldNote(Message, contract="post.note", version="1.0.0"):
    text: str


class NextNote(Message, contract="post.note", version="2.0.0"):
    text: str


class Stop(Message, contract="post.stop", version="1.0.0"):
    why: str


class Other(Message, contract="post.other", version="1.0.0"):
    text: str


class Heard(Message, contract="post.heard", version="1.0.0"):
    said: str


def make() -> App:
    app = App("posts")

    @app.workflow("listen", version="1.0.0", receives=(Note, Stop))
    async def listen(request: Go, ctx: WorkflowContext) -> Heard:
        """Takes so many notes, waits after each, then waits for a stop."""
        heard = []
        for _ in range(request.wanted):
            heard.append((await ctx.receive(Note)).text)
            await ctx.sleep(1)
        heard.append((await ctx.receive(Stop)).why)
        return Heard(said=" ".join(heard))

    @app.workflow("patient", version="1.0.0", receives=Note)
    async def patient(request: Go, ctx: WorkflowContext) -> Heard:
        """Gives up after five seconds, then waits once more: nothing is lost by giving up."""
        try:
            async with asyncio.timeout(5):
                return Heard(said=(await ctx.receive(Note)).text)
        except TimeoutError:
            late = await ctx.receive(Note)
            return Heard(said=f"late {late.text} at {ctx.now().second}")

    @app.workflow("careless", version="1.0.0")
    async def careless(request: Go, ctx: WorkflowContext) -> Heard:
        await ctx.receive(Other)
        return Heard(said="never")

    return app


def facts(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation, workflow: str = "listen", wanted: int = 2) -> Any:
    return await sim.bus.submit(sim.app.workflows[workflow], Go(wanted=wanted), id="a")


# --- received --------------------------------------------------------------------------------------------------------------------------


def test_messages_are_received_in_order_and_kept_until_then() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await task.send(Stop(why="end"))
        assert [await task.send(Note(text=text), id=text) for text in ("one", "two")] == ["msg_one", "msg_two"]
        assert (await task.result()).said == "one two end"
        assert [fact.contract for fact in facts(sim, e.MessagePosted)] == ["post.stop 1.0.0", "post.note 1.1.0", "post.note 1.1.0"]

    simulate(main, make())


def test_a_send_is_durable_on_return() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, wanted=0)
        await task.send(Stop(why="end"))
        sim.crash_engine()
        assert (await task.result()).said == "end"

    simulate(main, make())


def test_a_receive_that_times_out_takes_nothing() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, "patient")
        await asyncio.sleep(10)
        await task.send(Note(text="hello"))
        assert (await task.result()).said.startswith("late hello at ")

    simulate(main, make())


def test_a_message_without_a_class_and_of_an_older_version() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await sim.bus.contracts.register(OldNote)
        await task.send_json("post.note", {"text": "json"}, id="one", by="ann")
        await task.send(OldNote(text="old"))
        await task.send_json("post.stop", b'{"why": "end"}', version="1.0.0")
        assert (await task.result()).said == "json old end"
        first, second, _ = facts(sim, e.MessagePosted)
        assert (first.by, first.envelope["dataschema"]) == ("ann", "interlock:post.note:1.1.0")
        assert second.envelope["dataschema"] == "interlock:post.note:1.0.0"

    simulate(main, make())


def test_what_outsiders_wrote_taints_the_task() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await task.send(Note(text="one"))
        assert sim.engine.tasks["tsk_a"].label.trusted
        await task.send(Note(text="two", mail="buy"))
        assert sim.engine.tasks["tsk_a"].label.sources == ("post.note/mail",)
        await task.send(Stop(why="end"))
        await task.result()
        (end,) = facts(sim, e.TaskEnded)
        assert end.label == "untrusted:post.note/mail"

    simulate(main, make())


# --- sent again, refused -----------------------------------------------------------------------------------------------------------------


def test_the_same_id_is_the_same_message_also_after_a_crash_and_after_the_end() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        for _ in range(2):
            await task.send(Note(text="one"), id="n-1")
        sim.crash_engine()
        await task.send(Note(text="one"), id="n-1")
        with pytest.raises(MessageConflict, match="msg_n-1 was sent to tsk_a before"):
            await task.send(Note(text="other"), id="n-1")
        await task.send(Note(text="two"))
        await task.send(Stop(why="end"), id="n-3")
        assert (await task.result()).said == "one two end"
        await task.send(Note(text="one"), id="n-1")
        assert len(facts(sim, e.MessagePosted)) == 3

    simulate(main, make())


REFUSALS: dict[type[Refused], Callable[[Any], Any]] = {
    UnknownContract: lambda task: task.send_json("post.nothing", {}),
    NotReceived: lambda task: task.send(Other(text="no")),
    InvalidMessage: lambda task: task.send_json("post.note", {"words": "no"}),
}


@pytest.mark.parametrize("error", REFUSALS)
def test_what_the_workflow_does_not_receive_is_refused_in_words_and_on_record(error: type[Refused]) -> None:
    async def main(sim: Simulation) -> None:
        await sim.bus.contracts.register(Other)
        task = await begin(sim)
        with pytest.raises(error, match=r"Nothing was sent|Register it"):
            await REFUSALS[error](task)
        (refused,) = facts(sim, e.PostRefused)
        assert refused.error["code"] == error.code
        assert facts(sim, e.MessagePosted) == []

    simulate(main, make())


def test_a_newer_version_than_the_workflow_reads_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        await sim.bus.contracts.register(NextNote)
        with pytest.raises(NotReceived, match=r"does not receive post.note 2.0.0. It receives: post.note 1.1.0, post.stop 1.0.0"):
            await (await begin(sim)).send(NextNote(text="no"))

    simulate(main, make())


def test_what_is_not_json_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(InvalidMessage, match="not JSON"):
            await (await begin(sim)).send_json("post.note", b"{")

    simulate(main, make())


def test_nobody_receives_in_a_task_that_has_ended_or_never_was() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, wanted=0)
        await task.send(Stop(why="end"))
        await task.result()
        for _ in range(2):
            with pytest.raises(TaskOver, match="has ended already, as success"):
                await task.send(Stop(why="once more"))
            sim.crash_engine()
        with pytest.raises(UnknownTask):
            await sim.bus.task("nobody").send(Stop(why="end"))
        with pytest.raises(BadDeclaration, match="message id 'No!'"):
            await task.send(Stop(why="end"), id="No!")

    simulate(main, make())


def test_a_task_takes_so_many_messages_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "POSTS_AT_MOST", 2)

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        for text in "ab":
            await task.send(Note(text=text))
        with pytest.raises(TooManyMessages, match="was sent 2 messages already"):
            await task.send(Note(text="c"))

    simulate(main, make())


def test_a_receive_that_is_not_declared_fails_its_task_and_says_what_to_write() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, "careless")
        await task.outcome()
        assert "receives=(Other,)" in ((await task.record()).error or "")

    simulate(main, make())


def test_one_major_is_received_by_one_class() -> None:
    with pytest.raises(BadDeclaration, match=r"it receives major post.note 1 by two classes"):

        @App("twice").workflow("w", version="1.0.0", receives=(Note, OldNote))
        async def w(request: Go, ctx: WorkflowContext) -> Heard:
            return Heard(said="")


# --- whatever dies -----------------------------------------------------------------------------------------------------------------------


def crash_at(k: int, who: str) -> str:
    """The result where somebody dies right after the k-th entry of the task is durable."""

    async def main(sim: Simulation) -> str:
        seen = 0

        def on_entry(entry: e.Entry) -> None:
            nonlocal seen
            seen += entry.task == "tsk_a"
            if seen == k and entry.task == "tsk_a":
                if who == "engine":
                    sim.crash_engine()
                else:
                    for name in sim.living("runner"):
                        sim.crash_peer(name)

        sim.on_entry = on_entry
        task = await begin(sim)
        await task.send(Stop(why="end"), id="stop")
        await task.send(Note(text="one"), id="one")
        await asyncio.sleep(3)
        await task.send(Note(text="two"), id="two")
        said: str = (await task.result()).said
        assert len(facts(sim, e.MessagePosted)) == 3
        stored = sim.store.reader.entries("tsk_a")
        assert fold("tsk_a", stored).events == len([one for one in stored if one.kind in ("message.posted", "timer.fired")])
        return said

    return simulate(main, make())


@pytest.mark.parametrize("who", ["engine", "runner"])
def test_whoever_dies_after_whichever_entry_the_workflow_hears_the_same(who: str) -> None:
    assert {crash_at(k, who) for k in range(1, 11)} == {"one two end"}
