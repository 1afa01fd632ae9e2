"""Who goes round in circles is told so and stopped; who only waits, tries again or does the same at once is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Conversation, Message, WorkflowContext
from interlock.actors.rounds import LONGEST, AskRounds, Made, ToolRounds
from interlock.schemas import entries as e
from interlock.schemas.errors import BadDeclaration, LoopDetected, TaskFailed
from interlock.schemas.frames import Happened
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.tool import declare


class Go(Message, contract="rounds.go", version="1.0.0"):
    text: str = "go"


class Draft(Message, contract="rounds.draft", version="1.0.0"):
    text: str


class Verdict(Message, contract="rounds.verdict", version="1.0.0"):
    good: bool


# --- tools ------------------------------------------------------------------------------------------------------------------

A, B = Made("look", '{"name": "a", "deep": 1}', "1"), Made("look", '{"name": "b"}', "2")


def test_the_third_equal_call_with_an_equal_result_is_a_loop_and_the_way_round_is_shown() -> None:
    rounds = ToolRounds("agent coder", 3)
    for call in (A, B, A, B):
        rounds.turn([call])
    with pytest.raises(LoopDetected) as found:
        rounds.turn([A._replace(arguments='{"deep":1,"name":"a"}')])
    assert found.value.facts["cycle"] == 'look({"name": "a", "deep": 1}) → look({"name": "b"}) → look({"deep":1,"name":"a"})'
    assert "agent coder asked the same and heard the same 3 times" in str(found.value)


def test_another_result_is_progress_and_the_same_call_thrice_in_one_turn_is_no_loop() -> None:
    rounds = ToolRounds("agent coder", 3)
    for n in range(20):
        rounds.turn([A._replace(result=str(n))])
    rounds.turn([B, B, B, B])


def test_arguments_that_are_no_json_and_endless_ones_are_shown_cut() -> None:
    rounds = ToolRounds("a", 2)
    rounds.turn([Made("look", "{\n" + "x" * 900, "no\udcff")])
    with pytest.raises(LoopDetected) as found:
        rounds.turn([Made("look", "{\n" + "x" * 900, "no\udcff")])
    shown = found.value.facts["cycle"]
    assert shown.startswith("look({ xx")
    assert shown.count("…") == 2
    assert len(shown) < 200


@given(st.lists(st.sampled_from([A, B, A._replace(result="other")]), max_size=12), st.none() | st.integers(2, 5))
def test_a_loop_is_found_exactly_where_a_call_has_come_as_often_as_it_may(calls: list[Made], most: int | None) -> None:
    rounds = ToolRounds("a", most)
    for n, call in enumerate(calls, 1):
        if most is not None and calls[:n].count(call) >= most:
            with pytest.raises(LoopDetected):
                rounds.turn([call])
            return
        rounds.turn([call])


# --- asks --------------------------------------------------------------------------------------------------------------------


class Asking:
    """A workflow's asks and what it hears, numbered as a desk numbers them."""

    def __init__(self, most: int | None = 3) -> None:
        self.rounds, self.n = AskRounds("workflow w", most), 0

    def ask(self, what: str) -> LoopDetected | None:
        self.n += 1
        return self.rounds.ask(self.n, "rounds.go", what.encode())

    def hear(self, n: int = 0, kind: str = "reply", value: str = "same", evidence: bytes = b"") -> None:
        self.rounds.hear(Happened("tsk_a", 1, n or self.n, kind, value.encode(), 0, evidence, "rounds.draft"))


def asked_before_it_is_refused(most: int, length: int, times: int = 10_000) -> int:
    asking = Asking(most)
    for n in range(times):
        if asking.ask(str(n % length)) is not None:
            return n
        asking.hear()
    return times


@given(st.integers(2, 6), st.integers(1, LONGEST + 2))
def test_a_round_is_refused_when_it_would_begin_once_more_than_it_may(most: int, length: int) -> None:
    found = asked_before_it_is_refused(most, length, 300)
    assert found == (most * length if length <= LONGEST else 300)


def test_the_round_is_shown_and_whoever_goes_another_way_is_not_refused() -> None:
    asking = Asking(2)
    for what in ("draft", "judge", "draft", "judge"):
        assert asking.ask(what) is None
        asking.hear()
    refused = asking.ask("draft")
    assert refused is not None
    assert refused.facts["cycle"] == "rounds.go draft → rounds.go judge → rounds.go draft"
    assert asking.ask("draft") is not None
    assert asking.ask("publish") is None


@pytest.mark.parametrize("kind", ["timer", "answer", "message"])
def test_where_something_else_was_heard_the_world_may_have_changed(kind: str) -> None:
    asking = Asking()
    for _ in range(50):
        assert asking.ask("ready?") is None
        asking.hear()
        asking.hear(99, kind)


def test_other_replies_other_evidence_and_failures_make_no_round() -> None:
    asking = Asking()
    for n in range(50):
        assert asking.ask("next") is None
        asking.hear(value=str(n))
        assert asking.ask("next") is None
        asking.hear(evidence=str(n).encode())
    for _ in range(50):
        assert asking.ask("flaky") is None
        asking.hear(kind="failure")


def test_what_is_asked_at_the_same_time_is_asked_once() -> None:
    asking = Asking()
    for _ in range(2):
        first = asking.n + 1
        assert [asking.ask("vote") for _ in range(5)] == [None] * 5
        for n in range(first, first + 5):
            asking.hear(n)
    assert asking.ask("vote") is None


def test_without_a_bound_nothing_is_refused() -> None:
    asking = Asking(None)
    for _ in range(100):
        assert asking.ask("again") is None
        asking.hear()


@pytest.mark.parametrize("bounds", [{"repeats": 1}, {"turns": 0}])
def test_bounds_that_allow_nothing_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(BadDeclaration):
        Conversation(**bounds)
    if "repeats" in bounds:
        with pytest.raises(BadDeclaration, match="workflow flow: repeats=1"):
            flow_app(repeats=1)


# --- on a bus ------------------------------------------------------------------------------------------------------------------


def look(name: str) -> str:
    """Look it up."""
    return f"nothing about {name}"


def flow_app(conversation: Conversation | None = None, repeats: int | None = 3) -> App:
    """A writer that is a model, a judge that is never content, and a workflow that goes on until it is."""
    app = App("circles")
    tools = (declare(look, effect="read"),)
    app.agent("writer", version="1.0.0", accepts=Go, returns=Draft, tools=tools, instructions="You write.", conversation=conversation)

    @app.agent("judge", version="1.0.0")
    async def judge(request: Draft, ctx: Any) -> Verdict:
        return Verdict(good=False)

    @app.workflow("flow", version="1.0.0", repeats=repeats)
    async def flow(request: Go, ctx: WorkflowContext) -> Draft:
        while True:
            draft = await ctx.ask(request, returns=Draft)
            if (await ctx.ask(draft, returns=Verdict)).good:
                return draft

    return app


async def failure(sim: Simulation) -> tuple[str, list[e.Entry]]:
    task = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")
    with pytest.raises(TaskFailed) as failed:
        await task.result()
    return failed.value.facts["reason"], sim.store.reader.entries("tsk_a")


LOOKS = {"rules": [{"answer": {"tool_calls": [{"name": "look", "arguments": {"name": "x"}}]}}]}
WRITES = {"rules": [{"answer": {"json": {"text": "it"}}}]}


def test_a_model_that_goes_round_in_circles_is_stopped_and_the_circle_is_on_record() -> None:
    async def main(sim: Simulation) -> None:
        reason, entries = await failure(sim)
        assert 'loop detected: agent writer asked the same and heard the same 3 times: look({"name":"x"}) → look({"name":"x"})' in reason
        (failed,) = (fact for entry in entries if isinstance(fact := entry.open(), e.DispatchFailed))
        assert failed.error["facts"]["cause"] == "loop_detected"
        assert sim.script is not None
        assert sim.script.count == 3

    simulate(main, flow_app(), LOOKS)


def test_the_bounds_of_a_conversation_are_its_agent_s() -> None:
    async def main(sim: Simulation) -> None:
        reason, _ = await failure(sim)
        assert "no answer within 7 turns" in reason

    simulate(main, flow_app(Conversation(turns=7, repeats=None)), LOOKS)


def test_a_workflow_that_goes_round_in_circles_is_refused_its_next_round_and_so_it_is_in_a_replay() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")

        def crash(entry: e.Entry) -> None:
            if entry.kind == e.DispatchFailed.KIND:
                for name in sim.living("runner"):
                    sim.crash_peer(name)

        sim.on_entry = crash
        with pytest.raises(TaskFailed, match=r"loop detected: workflow flow asked the same and heard the same 3 times: rounds\.go"):
            await task.result()
        facts = [entry.open() for entry in sim.store.reader.entries("tsk_a")]
        sent = [fact.agent for fact in facts if isinstance(fact, e.MessageSent)]
        assert sent == ["writer", "judge"] * 3 + [""]
        assert not any(isinstance(fact, e.TaskDiverged) for fact in facts)

    simulate(main, flow_app(), WRITES)
