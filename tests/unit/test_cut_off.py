"""A model call whose gateway dies while there is no orchestrator: charged, recorded and shown like any other that is cut off."""

import asyncio
from contextvars import Context
from itertools import islice

import pytest

from interlock import App, Message, WorkflowContext
from interlock.actors import mailbox
from interlock.actors.supervisor.journal import Row
from interlock.schemas import entries as e
from interlock.schemas.frames import CallModel, carried
from interlock.testing.simulated_ports import Ledger
from interlock.testing.simulation import Simulation, simulate

PLAYBOOK = {"rules": [{"delay": 5.0, "answer": {"json": {"text": "done"}}}]}


class Ask(Message, contract="cut.ask", version="1.0.0"):
    text: str


class Said(Message, contract="cut.said", version="1.0.0"):
    text: str


app = App("cut")
app.agent("talker", version="1.0.0", accepts=Ask, returns=Said, instructions="Talk.")


@app.workflow("talk", version="1.0.0")
async def talk(request: Ask, ctx: WorkflowContext) -> Said:
    return await ctx.ask(request, returns=Said)


@pytest.mark.parametrize("replica_too", [False, True])
@pytest.mark.parametrize("down", [0.5, 3.0])
def test_it_is_charged_and_its_record_says_so(down: float, replica_too: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        (gateway,) = sim.living("models")
        sim.crash_engine(down=down)
        sim.crash_peer(gateway)
        if replica_too:
            (replica,) = sim.living("replica")
            sim.crash_peer(replica)
        assert (await task.result()).text == "done"
        facts = [entry.open() for entry in await task.entries()]
        (cut,) = [fact for fact in facts if isinstance(fact, e.ModelCutOff)]
        assert (cut.gateway, cut.number) == (gateway, 1)
        assert cut.charged["tokens"] > 0
        assert sum(isinstance(fact, e.ModelCalled) for fact in facts) == 1
        assert sim.script is not None
        assert sim.script.count == 2

    simulate(main, app, PLAYBOOK)


@pytest.mark.parametrize("replica_too", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_one_that_was_settled_and_not_recorded_is_cut_off_too(again: bool, replica_too: bool) -> None:
    """It has its answer and its charge; then the gateway and whoever would have recorded it die, perhaps the next one too."""

    async def main(sim: Simulation) -> None:
        died: list[str] = []

        def settled(row: Row) -> None:
            if row.kind == "settle" and not died:
                died.extend(sim.living("models"))
                sim.crash_engine(down=0.5)
                sim.crash_peer(died[0])
                if replica_too:
                    sim.crash_peer(sim.living("replica")[0])
                if again:
                    asyncio.get_running_loop().call_later(1, sim.crash_engine, context=Context())

        sim.on_row = settled
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        assert (await task.result()).text == "done"
        facts = [entry.open() for entry in await task.entries()]
        (cut,) = [fact for fact in facts if isinstance(fact, e.ModelCutOff)]
        (row,) = [row for row in sim.rows if row.kind == "settle" and died[0] in row.data["id"]]
        assert (cut.gateway, cut.number) == (died[0], 1)
        assert {meter: str(amount) for meter, amount in cut.charged.items()} == {m: str(a) for m, a in row.data["actual"].items()}
        (called,) = [fact for fact in facts if isinstance(fact, e.ModelCalled)]
        assert called.usage["input_tokens"] > 0
        assert sim.script is not None
        assert sim.script.count == 2
        assert (await task.record()).steps == 2

    simulate(main, app, PLAYBOOK)


def test_a_gateway_that_is_slow_to_answer_the_next_orchestrator_keeps_its_call() -> None:
    async def main(sim: Simulation) -> None:
        await sim.bus.scale("models", 2)
        await asyncio.sleep(1)
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(1)
        (holder,) = [name for name in sim.living("models") if sim.peers[name][1].host.holds()]
        exchange, until = sim.peers[holder][1].exchange, asyncio.get_running_loop().time() + 20

        async def slowly(request: bytes) -> bytes:
            if asyncio.get_running_loop().time() < until:
                raise OSError("the way is blocked")
            return await exchange(request)

        sim.peers[holder][1].exchange = slowly  # type: ignore[method-assign]
        sim.crash_engine()
        assert (await task.result()).text == "done"
        assert not any(entry.kind == e.ModelCutOff.KIND for entry in await task.entries())
        assert sim.script is not None
        assert sim.script.count == 1

    simulate(main, app, PLAYBOOK)


def test_a_call_that_goes_on_beside_a_new_orchestrator_is_cut_off_by_nobody() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        sim.crash_engine(down=0.5)
        await task.result()
        assert not any(entry.kind == e.ModelCutOff.KIND for entry in await task.entries())
        assert sim.script is not None
        assert sim.script.count == 1

    simulate(main, app, PLAYBOOK)


def _one_frame_per_answer(sim: Simulation, gateway: str, patch: pytest.MonkeyPatch) -> None:
    """The first answer to a new orchestrator carries one record, as where records are large; the next ones take their time."""
    line = sim.peers[gateway][1]
    exchange, host, answered = line.exchange, line.host, [0]
    answer = host._answer

    async def slowly(request: bytes) -> bytes:
        answered[0] += 1
        if answered[0] > 1:
            await asyncio.sleep(0.5)
        return await exchange(request)

    def one(epoch: int) -> bytes:
        with patch.context() as small:
            small.setattr(mailbox, "carried", lambda frames: carried(islice(frames, 1)))
            return answer(epoch)

    patch.setattr(line, "exchange", slowly)
    patch.setattr(host, "_answer", one)


def test_a_finished_record_that_the_first_answer_does_not_carry_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(sim: Simulation) -> None:
        tasks = [await sim.bus.submit(talk, Ask(text=f"hello {n}"), id=f"t{n}") for n in range(4)]
        await asyncio.sleep(1)
        (gateway,) = sim.living("models")
        sim.crash_engine(down=7)
        sim.supervisor.pools.scale("models", 2)
        _one_frame_per_answer(sim, gateway, monkeypatch)
        for task in tasks:
            assert (await task.result()).text == "done"
            assert [entry.kind for entry in await task.entries() if entry.kind.startswith("model.")] == [e.ModelCalled.KIND]
        assert sim.script is not None
        assert sim.script.count == 4

    simulate(main, app, PLAYBOOK)


@pytest.mark.parametrize("gateway_too", [False, True])
def test_a_call_for_a_message_that_was_not_durable_is_told_and_counted(gateway_too: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message was handed out while its entry waited for the disk. Then the orchestrator dies, and its next one sends it again: after
    it has heard of the call, where the gateway lives."""
    commit, held = Ledger._commit, ["message.sent"]

    def wait(self: Ledger) -> None:
        if self._queue[0][4] not in held:
            commit(self)

    monkeypatch.setattr(Ledger, "_commit", wait)

    async def main(sim: Simulation) -> None:
        def settled(row: Row) -> None:
            if row.kind == "settle" and held:
                held.clear()
                sim.crash_engine(down=0.5)
                (runner,) = sim.living("runner")
                sim.crash_peer(runner)
                if gateway_too:
                    sim.crash_peer(sim.living("models")[0])

        sim.on_row = settled
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        assert (await task.result()).text == "done"
        kinds = [entry.kind for entry in await task.entries() if entry.kind.startswith("model.")]
        assert kinds == ([e.ModelCutOff.KIND] if gateway_too else []) + [e.ModelCalled.KIND]
        assert sim.script is not None
        assert sim.script.count == (await task.record()).steps == 1 + gateway_too

    simulate(main, app, PLAYBOOK)


@pytest.mark.parametrize("first", [False, True])
def test_a_call_that_two_gateways_made_is_told_twice(first: bool) -> None:
    """An orchestrator that was over may have given it to another one. Whoever answers first is heard."""

    async def main(sim: Simulation) -> None:
        await sim.bus.scale("models", 2)
        await asyncio.sleep(1)
        asked: list[tuple[str, CallModel]] = []
        sim.on_frame = lambda name, frame: asked.append((name, frame)) if isinstance(frame, CallModel) else None
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(1)
        ((here, frame),) = asked
        (there,) = {*sim.living("models")} - {here}
        sim.engine.peers.channels[there].send(frame)
        if first:
            await asyncio.sleep(1)
            sim.stop_peer(here, back=20)
        assert (await task.result()).text == "done"
        await asyncio.sleep(30)
        facts = [entry.open() for entry in await task.entries()]
        (called,) = [fact for fact in facts if isinstance(fact, e.ModelCalled)]
        (late,) = [fact for fact in facts if isinstance(fact, e.ModelCutOff)]
        assert (called.gateway, late.gateway, late.late) == ((there, here, True) if first else (here, there, True))
        assert late.charged["tokens"] > 0
        assert (await task.record()).steps == 2
        assert all(one.load == 0 for one in sim.engine.calls.gateways)

    simulate(main, app, PLAYBOOK)
