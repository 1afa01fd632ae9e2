"""Effects and labels: answered once and from the record ever after, whoever died; trust is lost and carried, never won back."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Keyed, Message, Untrusted, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.errors import ToolFailed
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="effects.go", version="1.0.0"):
    value: int = 1
    mail: Untrusted[str] = ""


class Next(Message, contract="effects.next", version="1.0.0"):
    value: int = 1


class Gone(Message, contract="effects.gone", version="1.0.0"):
    said: str = ""


class Note(Message, contract="effects.note", version="1.0.0"):
    said: str = ""


SLOW = {"rules": [{"agent": "thinker", "delay": 2.0, "answer": {"json": {"said": "thought"}}}]}


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation, request: Message | None = None) -> Any:
    return await sim.bus.submit(sim.app.workflows["flow"], request or Go(), id="a")


# --- models --------------------------------------------------------------------------------------------------------------------------


def thinking() -> App:
    app = App("thinking")
    app.agent("thinker", version="1.0.0", accepts=Go, returns=Gone, instructions="You are the thinker.")

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    return app


async def think(sim: Simulation, *crashes: Any) -> Any:
    """The model's answer, where the first second of its call ends in these crashes."""
    task = await begin(sim)
    await asyncio.sleep(1)
    for crash in crashes:
        crash()
    return await task.result()


def lose(sim: Simulation, kind: str, pool: str = "") -> Any:
    """Every peer of a kind, or of one pool, dies."""
    return lambda: [sim.crash_peer(name) for name in sim.living(kind) if name.startswith(pool)]


def test_a_new_replica_attaches_to_the_call_that_runs() -> None:
    async def main(sim: Simulation) -> None:
        assert await think(sim, lose(sim, "replica")) == Gone(said="thought")
        assert sim.script is not None
        assert sim.script.count == 1
        assert len(of(sim, e.ModelCalled)) == 1
        assert of(sim, e.ModelCutOff) == []

    simulate(main, thinking(), SLOW)


@pytest.mark.parametrize("also", ["", "replica", "supervisor"])
def test_a_new_orchestrator_attaches_to_the_call_that_runs_also_among_several_gateways(also: str) -> None:
    async def main(sim: Simulation) -> None:
        sim.supervisor_cell.post(sim.supervisor.pools.scale, "models", 3)
        await asyncio.sleep(1)
        others = {"": [], "replica": [lose(sim, "replica")], "supervisor": [sim.crash_supervisor]}[also]
        assert await think(sim, sim.crash_engine, *others) == Gone(said="thought")
        assert sim.script is not None
        assert sim.script.count == 1

    simulate(main, thinking(), SLOW)


def test_a_call_is_not_made_again_by_a_gateway_that_has_less_to_do() -> None:
    async def main(sim: Simulation) -> None:
        sim.supervisor_cell.post(sim.supervisor.pools.scale, "models", 3)
        await asyncio.sleep(1)
        first = await begin(sim)
        await asyncio.sleep(1.5)
        second = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="b")
        await first.result()
        assert [sim.peers[name][1].host.busy() for name in sim.living("models")] == [False, True, False]
        sim.crash_engine()
        assert await second.result() == Gone(said="thought")
        assert sim.script is not None
        assert sim.script.count == 2

    simulate(main, thinking(), SLOW)


def test_a_call_whose_gateway_died_is_charged_and_made_once_more() -> None:
    async def main(sim: Simulation) -> None:
        assert await think(sim, lose(sim, "models")) == Gone(said="thought")
        assert sim.script is not None
        assert sim.script.count == 2
        (cut,) = of(sim, e.ModelCutOff)
        assert (cut.gateway, cut.number) == ("models-1", 1)
        held = [row.data["id"] for row in sim.rows if row.kind == "reserve"]
        settled = [row.data["id"] for row in sim.rows if row.kind == "settle"]
        assert len(held) == 2
        assert settled == held
        reserved, spent = (next(row.data for row in sim.rows if row.kind == kind) for kind in ("reserve", "settle"))
        assert spent["actual"] == reserved["amounts"], "charged in full: nobody knows what it cost"
        assert cut.charged["tokens"] == reserved["amounts"]["tokens"] > 0
        record = await sim.bus.task("a").record()
        assert (record.cut_off_calls, record.cut_off_tokens) == (1, cut.charged["tokens"])

    simulate(main, thinking(), SLOW)


def test_a_call_whose_gateway_and_orchestrator_died_is_charged_twice() -> None:
    async def main(sim: Simulation) -> None:
        assert await think(sim, lose(sim, "models"), sim.crash_engine) == Gone(said="thought")
        held = [row.data["id"] for row in sim.rows if row.kind == "reserve"]
        assert len(set(held)) == 2, "two requests went out, so two are paid for"

    simulate(main, thinking(), SLOW)


@pytest.mark.parametrize("crashed", [False, True])
def test_a_call_that_loses_its_gateway_twice_has_failed(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        for _ in range(2):
            await asyncio.sleep(1)
            lose(sim, "models")()
        if crashed:
            await asyncio.sleep(0.05)
            sim.crash_engine()
        outcome = await task.outcome()
        assert outcome == "failed"
        (failed,) = of(sim, e.DispatchFailed)
        assert "each time its gateway ended" in failed.error["message"]
        assert len(of(sim, e.ModelCutOff)) == 2
        await asyncio.sleep(30)
        assert sim.script is not None
        assert sim.script.count == 2

    simulate(main, thinking(), SLOW)


def test_a_call_for_nobody_is_recorded_once_whoever_hears_of_it() -> None:
    app = App("thinking")
    app.agent("thinker", version="1.0.0", accepts=Go, returns=Gone, instructions="You are the thinker.")

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            async with asyncio.timeout(1):
                return await ctx.ask(request, returns=Gone)
        except TimeoutError:
            await ctx.sleep(20)
            return Gone(said="without")

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "model.called" and entry.epoch == 1 else None
        assert await task.result() == Gone(said="without")
        (called,) = of(sim, e.ModelCalled)
        assert called.error["code"] == "call_cancelled"

    simulate(main, app, SLOW)


# --- tools -----------------------------------------------------------------------------------------------------------------------------


def working(runs: list[str], *, trusted: str = "", fail: bool = False, replicas: tuple[int, int] = (1, 4)) -> App:
    """An agent whose tools take half a second each, read first, then write."""
    app = App("working")

    @app.tool(effect="read", trusted=trusted)
    async def look(n: int) -> str:
        """Look.

        Args:
            n: Where.
        """
        runs.append(f"look {n}")
        await asyncio.sleep(0.5)
        if fail:
            raise LookupError("nothing there")
        return "seen"

    @app.tool(effect="write", system="world", repeat=Keyed("n"), trusted="it returns what it was given")
    async def put(n: int) -> int:
        """Put.

        Args:
            n: What.
        """
        runs.append(f"put {n}")
        await asyncio.sleep(0.5)
        return n

    @app.agent("worker", version="1.0.0", tools=[look, put], replicas=replicas, concurrency=2)
    async def worker(request: Go, ctx: AgentContext) -> Gone:
        try:
            said = await ctx.call(look, n=request.value)
        except ToolFailed:
            said = "blind"
        await ctx.call(put, n=request.value)
        return Gone(said=said)

    @app.agent("next", version="1.0.0")
    async def following(request: Next, ctx: AgentContext) -> Note:
        return Note(said="trusted" if ctx.label.trusted else ",".join(ctx.label.sources))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Note:
        await ctx.ask(request, returns=Gone)
        return await ctx.ask(Next(), returns=Note)

    @app.workflow("degrading", version="1.0.0", exit=lambda result, degraded, evidence: not degraded and len(evidence) == 2)
    async def degrading(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    return app


def test_what_is_recorded_is_not_done_again_by_the_next_replica() -> None:
    runs: list[str] = []

    async def main(sim: Simulation) -> None:
        sim.on_entry = lambda entry: lose(sim, "replica", "worker")() if entry.kind == "effect.ended" else None
        await (await begin(sim)).result()
        assert runs == ["look 1", "put 1"]
        assert [fact.lost for fact in of(sim, e.DispatchAttempted)] == [True, True]

    simulate(main, working(runs))


def test_a_result_whose_answer_was_lost_with_its_orchestrator_is_answered_again() -> None:
    runs: list[str] = []

    async def main(sim: Simulation) -> None:
        sim.on_entry = lambda entry: sim.crash_engine() if entry.kind in ("effect.ended", "effect.intended") and entry.epoch < 5 else None
        await (await begin(sim)).result()
        assert runs == ["look 1", "put 1"]
        assert of(sim, e.DispatchAttempted) == []

    simulate(main, working(runs))


def test_a_reply_that_was_ready_before_its_orchestrator_came_counts() -> None:
    runs: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await asyncio.sleep(0.5)
        sim.crash_engine(down=2)
        await task.result()
        assert runs == ["once"]
        assert of(sim, e.DispatchAttempted) == []
        assert [entry for entry in sim.store.disk.log if entry.kind == "reply.refused"] == []  # type: ignore[attr-defined]

    app = App("alone")

    @app.agent("lone", version="1.0.0")
    async def lone(request: Go, ctx: AgentContext) -> Gone:
        runs.append("once")
        await asyncio.sleep(1)
        return Gone()

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    simulate(main, app)


def test_a_replica_that_answers_late_is_waited_for_where_it_may_be_writing() -> None:
    runs: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await asyncio.sleep(0.8)
        assert runs == ["look 1", "put 1"]
        (name,) = (name for name in sim.living() if name.startswith("worker"))
        peer = sim.peers[name][1]
        exchange = peer.exchange

        async def frozen(request: bytes) -> bytes:
            await asyncio.sleep(20)
            return await exchange(request)

        peer.exchange = frozen  # type: ignore[method-assign]
        sim.crash_engine()
        await asyncio.sleep(10)
        assert sim.engine.resumed
        assert of(sim, e.EffectUnknown) == []
        await task.result()
        assert runs == ["look 1", "put 1"]

    simulate(main, working(runs))


# --- labels and evidence -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail", "trusted", "label"),
    [
        ("", "ours", "trusted"),
        ("hello", "ours", "untrusted:effects.go/mail"),
        ("", "", "untrusted:tool/look"),
        ("hello", "", "untrusted:effects.go/mail,tool/look"),
    ],
)
@pytest.mark.parametrize("crashed", [False, True])
def test_labels_are_joined_and_carried_to_the_next_agent(mail: str, trusted: str, label: str, crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        if crashed:
            sim.on_entry = lambda entry: sim.crash_engine() if entry.kind in ("effect.ended", "message.received") else None
        result = await (await begin(sim, Go(mail=mail))).result()
        assert result.said == label.removeprefix("untrusted:")
        first, second = of(sim, e.MessageSent)
        assert first.label == ("untrusted:effects.go/mail" if mail else "trusted")
        assert second.label == label
        (ended,) = of(sim, e.TaskEnded)
        assert ended.label == label

    simulate(main, working([], trusted=trusted))


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("fail", [False, True])
def test_a_reply_that_rests_on_a_failed_tool_is_degraded_and_says_so(fail: bool, crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        if crashed:
            sim.on_entry = lambda entry: lose(sim, "runner")() if entry.kind == "message.received" else None
        task = await sim.bus.submit(sim.app.workflows["degrading"], Go(), id="a")
        assert await task.outcome() == ("failed" if fail else "success")
        (received,) = of(sim, e.MessageReceived)
        assert received.degraded is fail

    simulate(main, working([], fail=fail))


# --- pools -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", ["", "engine", "supervisor"])
def test_a_pool_grows_and_shrinks_under_load_and_loses_nothing(crash: str) -> None:
    runs: list[str] = []

    async def main(sim: Simulation) -> None:
        tasks = [await sim.bus.submit(sim.app.workflows["flow"], Go(value=n), id=f"t{n}") for n in range(20)]
        for size in (4, 1, 3, 0, 2):
            await sim.bus.scale("worker", size)
            await asyncio.sleep(0.7)
            if crash == "engine":
                sim.crash_engine()
            elif crash == "supervisor":
                sim.crash_supervisor()
        assert {str(await task.outcome()) for task in tasks} == {"success"}
        await asyncio.sleep(60)
        assert len(sim.supervisor.pools.members("worker")) == 2
        assert len([name for name in sim.living() if name.startswith("worker")]) == 2
        if crash != "engine":
            assert sorted(runs) == sorted([f"look {n}" for n in range(20)] + [f"put {n}" for n in range(20)]), "who leaves ends its work"

    simulate(main, working(runs))
