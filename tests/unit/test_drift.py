"""Goal drift: a model is asked now and then whether it is still on its goal; after a no it hears the goal again, two in a row end it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Budget, Conversation, Message, WorkflowContext
from interlock.actors.aim import RESTATED, Aim
from interlock.actors.drift import CHECK, Checks
from interlock.actors.window import size
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode
from interlock.schemas.errors import BadDeclaration, Drifted, TaskFailed
from interlock.testing.playbook import Playbook
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.tool import declare

AIM = Aim("Find the keys", "")
YES, NO = '{"progress":"p","left":"l","on_goal":true}', '{"progress":"p","left":"l","on_goal":false}'


class Find(Message, contract="drift.find", version="1.0.0"):
    what: str


class Found(Message, contract="drift.found", version="1.0.0"):
    where: str


def seek(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "nothing " * 200


# --- the checks alone -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "it is not JSON"),
        ("I am fine", "it is not JSON"),
        ("[true]", "it does not say whether it is on its goal"),
        ('{"on_goal": "yes"}', "it does not say whether it is on its goal"),
    ],
)
def test_an_answer_that_is_none_is_a_no(answer: str, problem: str) -> None:
    checks = Checks("finder", 5, AIM)
    check = checks.take(answer)
    assert (check.on_goal, check.problem) == (False, problem)
    assert checks.follow(check) == [{"role": "user", "content": AIM.restated()}]
    with pytest.raises(Drifted, match=problem):
        checks.follow(checks.take(answer))


@given(st.lists(st.booleans(), max_size=12))
def test_it_ends_at_the_second_no_in_a_row_and_nowhere_else(answers: list[bool]) -> None:
    checks = Checks("finder", 1, AIM)
    for n, yes in enumerate(answers):
        check = checks.take(YES if yes else NO)
        if not yes and n and not answers[n - 1]:
            with pytest.raises(Drifted, match="agent finder was not on its goal in 2 self-checks in a row"):
                checks.follow(check)
            return
        assert checks.follow(check) == ([] if yes else [{"role": "user", "content": AIM.restated()}])


@given(st.lists(st.integers(1, 9), max_size=30), st.none() | st.integers(1, 20))
def test_it_is_due_once_so_many_steps_are_done_since_the_last_one(turns: list[int], every: int | None) -> None:
    checks, since, done = Checks("finder", every, AIM), 0, 0
    for steps in turns:
        checks.did(steps)
        since, done = since + steps, done + steps
        assert checks.due == (every is not None and since >= every)
        if checks.due:
            assert checks.take(YES).steps == done
            since = 0


def test_a_check_before_the_first_step_is_refused() -> None:
    with pytest.raises(BadDeclaration, match="check_every=0"):
        Conversation(check_every=0)


def test_a_conversation_is_a_model_s() -> None:
    declare_agent: Any = App("a").agent
    with pytest.raises(BadDeclaration, match="agent coder: it has a conversation="):
        declare_agent("coder", version="1.0.0", conversation=Conversation())


# --- the scripted model -----------------------------------------------------------------------------------------------------------


def said(playbook: dict[str, Any], *messages: dict[str, Any]) -> Any:
    reply = Playbook.load(playbook).reply({"messages": list(messages)}, Counter())
    return decode(decode(reply.body)["choices"][0]["message"]["content"])


def test_a_playbook_answers_self_checks_by_rules_of_their_own_and_on_its_goal_where_it_has_none() -> None:
    question = Checks("finder", 5, AIM).question()
    request = {"role": "user", "content": '{"what":"keys"}'}
    rules = [{"answer": {"json": {"where": "here"}}}, {"self_check": True, "turns": 1, "answer": {"json": {"what": "{{/what}}"}}}]
    assert said({"rules": rules}, request) == {"where": "here"}
    assert said({"rules": rules}, request, {"role": "assistant", "content": "x"}, question) == {"what": "keys"}
    assert said({"rules": rules}, request, question)["on_goal"] is True


# --- on a bus ------------------------------------------------------------------------------------------------------------------------


def finding(**conversation: Any) -> App:
    app = App("finding")
    app.agent(
        "finder",
        version="1.0.0",
        accepts=Find,
        returns=Found,
        tools=(declare(seek, effect="read"),),
        instructions="You are the finder.",
        conversation=Conversation(**conversation),
    )

    @app.workflow("flow", version="1.0.0", goal="Find the {what}", budget=Budget(tokens=None))
    async def flow(request: Find, ctx: WorkflowContext) -> Found:
        return await ctx.ask(request, returns=Found)

    return app


def script(*noes: int) -> dict[str, Any]:
    """A model that looks at 20 pages, and at these turns is off its goal."""
    off = [{"self_check": True, "turns": n, "answer": {"json": {"progress": "some", "left": "more", "on_goal": False}}} for n in noes]
    looks = [{"turns": n, "answer": {"tool_calls": [{"name": "seek", "arguments": {"page": n}}]}} for n in range(20)]
    return {"rules": [*off, *looks, {"answer": {"json": {"where": "here"}}}]}


async def run(sim: Simulation) -> list[e.Fact]:
    task = await sim.bus.submit(sim.app.workflows["flow"], Find(what="keys"), id="a")
    try:
        assert await task.result() == Found(where="here")
    finally:
        facts = [entry.open() for entry in sim.store.reader.entries("tsk_a")]
        assert (await task.record()).self_checks == len(checks_in(facts))
    return facts


def checks_in(facts: list[e.Fact]) -> list[e.SelfChecked]:
    return [fact for fact in facts if isinstance(fact, e.SelfChecked)]


@pytest.mark.parametrize("crashes", [False, True])
def test_checks_are_made_in_time_and_recorded_once_whoever_dies(crashes: bool) -> None:
    async def main(sim: Simulation) -> None:
        def crash(entry: e.Entry) -> None:
            if crashes and entry.kind in (e.ModelCalled.KIND, e.SelfChecked.KIND) and sim.random.random() < 0.3:
                sim.crash_engine()
                for name in sim.living("replica")[: sim.random.randrange(2)]:
                    sim.crash_peer(name)

        sim.on_entry = crash
        facts = await run(sim)
        assert [(check.n, check.steps, check.on_goal, check.progress) for check in checks_in(facts)] == [
            (n, 10 * n, True, "as written") for n in range(1, 5)
        ]
        assert sim.script is not None
        assert sim.script.count == 25
        asked = [request for request in sim.script.requests if request["messages"][-1]["content"].startswith(CHECK)]
        assert "The task's goal: Find the keys" in asked[0]["messages"][-1]["content"]
        assert (asked[0]["tool_choice"], asked[0]["response_format"]["json_schema"]["name"]) == ("none", "self_check")
        assert not any(CHECK in str(request["messages"][:-1]) for request in sim.script.requests)

    simulate(main, finding(check_every=10), script(), seed=3)


def test_after_a_no_the_goal_is_said_again_and_a_yes_forgives() -> None:
    async def main(sim: Simulation) -> None:
        facts = await run(sim)
        assert [check.on_goal for check in checks_in(facts)] == [False, True, False, True]
        assert sim.script is not None
        told = [message["content"] for message in sim.script.requests[-1]["messages"] if message["role"] == "user"]
        assert [text.startswith(f"{RESTATED} The task's goal: Find the keys") for text in told] == [False, True, True]

    simulate(main, finding(check_every=10), script(5, 15))


def test_two_noes_in_a_row_end_the_dispatch_as_drifted() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(TaskFailed, match="drifted: agent finder was not on its goal in 2 self-checks in a row, the last one after 30"):
            await run(sim)
        facts = [entry.open() for entry in sim.store.reader.entries("tsk_a")]
        assert [check.on_goal for check in checks_in(facts)] == [True, False, False]
        (failed,) = (fact for fact in facts if isinstance(fact, e.DispatchFailed))
        assert failed.error["facts"]["cause"] == "drifted"

    simulate(main, finding(check_every=10), script(10, 15))


def test_a_question_finds_room_too() -> None:
    async def main(sim: Simulation) -> None:
        facts = await run(sim)
        assert sim.script is not None
        assert all(size(request["messages"]) <= 8_000 for request in sim.script.requests)
        assert len(checks_in(facts)) == 20
        notes = [fact.n for fact in facts if isinstance(fact, e.SelfChecked | e.ContextFolded)]
        assert notes == list(range(1, len(notes) + 1))

    simulate(main, finding(check_every=2, window="8KB"), script())
