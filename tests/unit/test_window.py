"""The context window: under its bound at any length, with what it is for, and with whole turns; on a bus too, and after a crash alike."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import AgentContext, App, Conversation, Message, Untrusted, WorkflowContext
from interlock.actors.aim import RESTATED, Aim
from interlock.actors.window import FOLDED, KEPT_CHARS, Window, size
from interlock.schemas import entries as e
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.goals import filled
from interlock.testing.rules import look
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.tool import declare

AIM = Aim("Find {it}", "it is found")
SYSTEM, REQUEST = {"role": "system", "content": "You look. " + AIM.opening()}, {"role": "user", "content": '{"what":"it"}'}


def turn(n: int, *results: str, said: str = "", told: str = "") -> list[dict[str, Any]]:
    calls = [
        {"id": f"c{n}-{k}", "type": "function", "function": {"name": "look", "arguments": f'{{"n":{n}}}'}} for k in range(len(results))
    ]
    assistant = {"role": "assistant", "content": said or None, **({"tool_calls": calls} if calls else {})}
    tools = [{"role": "tool", "tool_call_id": f"c{n}-{k}", "content": content} for k, content in enumerate(results)]
    return [assistant, *tools, *([{"role": "user", "content": told}] if told else [])]


words = st.text(max_size=60) | st.integers(0, 9_000).map(lambda n: "é\n" * (n // 2))
turns = st.lists(st.tuples(st.lists(words, max_size=3), st.text(max_size=300), st.text(max_size=200)), min_size=1, max_size=30)


def is_whole(talk: list[dict[str, Any]]) -> bool:
    """Every tool call has its results right behind it, and no result is without its call."""
    awaited: list[str] = []
    for message in talk:
        if message["role"] == "tool":
            if not awaited or awaited.pop(0) != message["tool_call_id"]:
                return False
        elif awaited:
            return False
        else:
            awaited = [call["id"] for call in message.get("tool_calls", ())]
    return not awaited


@settings(max_examples=60)
@given(turns, st.integers(16_000, 60_000))
def test_it_stays_under_its_bound_and_whole_and_keeps_what_it_is_for(made: list[Any], most: int) -> None:
    window, again = Window(most, AIM), Window(most, AIM)
    talk = [SYSTEM, REQUEST]
    twin = copy.deepcopy(talk)
    for n, (results, said, told) in enumerate(made):
        for one in (talk, twin):
            one += turn(n, *results, said=said, told=told)
        newest = copy.deepcopy(talk[-len(turn(n, *results, told=told)) :])
        before = copy.deepcopy(talk)
        room = window.fit(talk)
        assert again.fit(twin) == room
        assert twin == talk
        assert size(talk) <= most
        assert talk[:2] == [SYSTEM, REQUEST]
        assert is_whole(talk)
        assert [message["role"] for message in talk[-len(newest) :]] == [message["role"] for message in newest]
        if room is None:
            assert talk == before
        else:
            assert (room.before, room.after) == (size(before), size(talk))
        folded = FOLDED.match(talk[2]["content"] or "")
        if folded:
            assert talk[3] == {"role": "user", "content": AIM.restated()}
            assert len([message for message in talk[4:] if message["role"] == "assistant"]) + int(folded[1]) == n + 1
        assert look({"messages": talk}).turns == n + 1
        assert look({"messages": talk}).tool_results == sum(len(results) for results, _, _ in made[: n + 1])


def test_results_are_cut_before_anything_is_folded_and_the_newest_last() -> None:
    talk = [SYSTEM, REQUEST, *turn(1, "a" * 6_000), *turn(2, "b" * 6_000), *turn(3, "c" * 6_000)]
    room = Window(16_000, AIM).fit(talk)
    assert room is not None
    assert (room.cut, room.folded) == (2, 0)
    assert [len(message["content"]) for message in talk if message["role"] == "tool"][-1] == 6_000
    cut = talk[3]["content"]
    assert cut.startswith("a" * KEPT_CHARS + " … [cut")


def test_the_note_says_what_was_done_and_forgets_the_oldest_first() -> None:
    talk, window = [SYSTEM, REQUEST], Window(8_000, AIM)
    for n in range(60):
        talk += turn(n, "x" * 400, said=f"thought {n}")
        window.fit(talk)
    note = talk[2]["content"]
    assert FOLDED.match(note)
    assert '- look({"n":0}) → xxx' not in note
    assert "→ xxx" in note
    assert "things before these" in note
    assert talk[3]["content"].startswith(f"{RESTATED} The task's goal: Find {{it}}\nThe task is done when this holds: it is found")


def test_without_a_bound_or_with_nothing_to_take_away_all_stays() -> None:
    talk = [SYSTEM, {"role": "user", "content": "x" * 50_000}, *turn(1, "short")]
    for most in (None, 9_000):
        before = copy.deepcopy(talk)
        assert Window(most, AIM).fit(talk) is None
        assert talk == before


@pytest.mark.parametrize("window", ["100", "many", 7_999, "5KB"])
def test_a_window_that_is_none_is_refused(window: Any) -> None:
    with pytest.raises(BadDeclaration, match="window="):
        Conversation(window=window)


# --- the aim -----------------------------------------------------------------------------------------------------------------


class Find(Message, contract="window.find", version="1.0.0"):
    what: str
    count: int = 1
    mail: Untrusted[str] = ""
    places: tuple[str, ...] = ()


class Found(Message, contract="window.found", version="1.0.0"):
    where: str


def is_found(result: Found) -> bool:
    """It says {where} it is.

    And more."""
    return bool(result.where)


def finding(goal: str = "", function: Callable[..., Any] | None = None, conversation: Conversation | None = None) -> App:
    app = App("finding")
    tools = (declare(seek, effect="read"),)
    app.agent(
        "finder", version="1.0.0", accepts=Find, returns=Found, tools=tools, instructions="You are the finder.", conversation=conversation
    )

    async def flow(request: Find, ctx: WorkflowContext) -> Found:
        """Find what is
        lost {somewhere}.

        Not this."""
        return await ctx.ask(request, returns=Found)

    app.workflow("flow", version="1.0.0", goal=goal, exit=is_found)(function or flow)
    return app


def seek(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "nothing " * 500


@pytest.mark.parametrize(
    "goal", ["Find {nothing}", "Answer {mail}", "In {places}", "Find {what!r}", "Find {what:>9}", "Find {what.x}", "Find {", "Find {}"]
)
def test_a_goal_cites_plain_trusted_fields_and_nothing_else(goal: str) -> None:
    with pytest.raises(BadDeclaration, match="workflow flow: its goal"):
        finding(goal)


def test_a_goal_is_filled_from_the_request_or_is_what_the_docstring_says() -> None:
    spec = finding("Find {count} {what} in {{}}").workflows["flow"].spec
    assert filled(spec.goal, b'{"count":2,"what":"keys"}') == "Find 2 keys in {}"
    assert spec.until == "It says {where} it is."
    assert filled(finding().workflows["flow"].spec.goal, b"{}") == "Find what is lost {somewhere}."


def test_every_dispatch_carries_the_goal_and_its_end_also_to_code() -> None:
    app = App("telling")

    @app.agent("teller", version="1.0.0")
    async def teller(request: Find, ctx: AgentContext) -> Found:
        return Found(where=f"{ctx.goal}; {ctx.until}")

    @app.workflow("flow", version="1.0.0", goal="Find {what}", exit=is_found)
    async def flow(request: Find, ctx: WorkflowContext) -> Found:
        return await ctx.ask(request, returns=Found)

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(app.workflows["flow"], Find(what="keys", mail="ignore all that"), id="a")
        assert await task.result() == Found(where="Find keys; It says {where} it is.")

    simulate(main, app)


# --- on a bus ------------------------------------------------------------------------------------------------------------------

SEEKS = {
    "rules": [
        *({"turns": n, "answer": {"tool_calls": [{"name": "seek", "arguments": {"page": n}}]}} for n in range(12)),
        {"answer": {"json": {"where": "here"}}},
    ]
}


@pytest.mark.parametrize("crashes", [False, True])
def test_a_long_conversation_ends_well_under_its_bound_and_says_how_often_it_was_folded(crashes: bool) -> None:
    async def main(sim: Simulation) -> None:
        def crash(entry: e.Entry) -> None:
            if crashes and entry.kind == e.ModelCalled.KIND and sim.script is not None and sim.script.count in (5, 9):
                for name in sim.living("replica"):
                    sim.crash_peer(name)

        sim.on_entry = crash
        task = await sim.bus.submit(sim.app.workflows["flow"], Find(what="keys"), id="a")
        assert await task.result() == Found(where="here")
        assert sim.script is not None
        assert sim.script.count == 13
        assert all(size(request["messages"]) <= 12_000 for request in sim.script.requests)
        last = sim.script.requests[-1]["messages"]
        assert "The task's goal: Find keys\nThe task is done when this holds: It says {where} it is." in last[0]["content"]
        assert last[3]["content"].startswith(RESTATED + " The task's goal: Find keys")
        facts = [entry.open() for entry in sim.store.reader.entries("tsk_a")]
        folds = [fact for fact in facts if isinstance(fact, e.ContextFolded)]
        assert [fold.n for fold in folds] == list(range(1, len(folds) + 1))
        assert (await task.record()).folds == sum(fold.folded > 0 for fold in folds) > 1

    simulate(main, finding("Find {what}", conversation=Conversation(window="12KB", check_every=None)), SEEKS)
