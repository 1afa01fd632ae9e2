"""The scripted model over real sockets, and its playbooks: right answers, the same for the same conversation, and clear refusals."""

import asyncio
import json
import re
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.errors import BadDeclaration
from interlock.testing.playbook import Playbook
from interlock.testing.scripted_model import ScriptedModel
from interlock.testing.templates import NoValue, filled, unfolded


def chat(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"model": "some-model", "messages": [{"role": role, "content": content} for role, content in messages], **more}


def post(model: ScriptedModel, body: Any, path: str = "/chat/completions") -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(model.base_url + path, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {**json.load(error), "retry-after": error.headers.get("Retry-After")}


def said(completion: dict[str, Any]) -> Any:
    return completion["choices"][0]["message"]["content"]


def answer(playbook: Any, request: dict[str, Any]) -> tuple[int, Any]:
    reply = Playbook.load(playbook).reply(request, Counter())
    return reply.status, json.loads(reply.body)


INVOICING = {
    "rules": [
        {"agent": "^You invoice", "tool_results": 0, "answer": {"tool_calls": [{"name": "get_order", "arguments": {"id": "{{/order}}"}}]}},
        {"agent": "^You invoice", "tool_results": 1, "answer": {"json": {"total": "{{tool/total}}", "text": "order {{/order}}"}}},
        {"agent": "^You review", "user_json": {"/round": 1}, "answer": {"text": "no"}},
        {"agent": "^You review", "user": '"round": *2', "answer": {"text": "yes"}},
    ]
}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel.start(INVOICING) as running:
        yield running


class TestAnswers:
    def test_tool_call_cites_the_last_user_message(self, model: ScriptedModel) -> None:
        status, completion = post(model, chat(("system", "You invoice."), ("user", '{"order": 7294}')))
        choice = completion["choices"][0]
        assert status == 200
        assert choice["finish_reason"] == "tool_calls"
        assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"id": 7294}
        assert completion["model"] == "some-model"

    def test_answer_cites_the_last_tool_result(self, model: ScriptedModel) -> None:
        turns = [("system", "You invoice."), ("user", 'Do this:\n{"order": 7294}'), ("assistant", ""), ("tool", '{"total": "9.50"}')]
        _, completion = post(model, chat(*turns))
        assert json.loads(said(completion)) == {"total": "9.50", "text": "order 7294"}

    def test_rules_tell_rounds_apart(self, model: ScriptedModel) -> None:
        for number, expected in ((1, "no"), (2, "yes")):
            _, completion = post(model, chat(("developer", "You review."), ("user", json.dumps({"round": number}))))
            assert said(completion) == expected

    def test_no_rule_says_who_asked_and_what(self, model: ScriptedModel) -> None:
        status, body = post(model, chat(("system", "You plan\ntrips."), ("user", "to Rome")))
        assert status == 400
        assert "'You plan trips.'" in body["error"]["message"]
        assert "'to Rome'" in body["error"]["message"]

    def test_citation_of_nothing_names_the_rule(self, model: ScriptedModel) -> None:
        status, body = post(model, chat(("system", "You invoice."), ("user", "{}")))
        assert (status, body["error"]["message"].startswith("rule 1: the answer cites {{/order}}")) == (400, True)

    def test_same_conversation_gets_the_same_bytes(self) -> None:
        request = chat(("system", "You invoice."), ("user", '{"order": 1}'))
        assert answer(INVOICING, request) == answer(INVOICING, {**request, "max_completion_tokens": 4000})

    def test_usage_is_a_quarter_of_the_bytes_and_at_least_one(self) -> None:
        _, completion = answer({"rules": [{"answer": {"text": "x" * 40}}]}, chat(("user", "y" * 400)))
        assert completion["usage"]["completion_tokens"] == 10
        assert completion["usage"]["prompt_tokens"] >= 100
        assert answer({"rules": [{"answer": {"text": ""}}]}, chat())[1]["usage"]["completion_tokens"] == 1

    def test_cap_cuts_the_answer(self) -> None:
        _, completion = answer({"rules": [{"answer": {"text": "x" * 400}}]}, chat(("user", "go"), max_completion_tokens=16))
        assert (said(completion), completion["choices"][0]["finish_reason"]) == ("x" * 64, "length")
        assert completion["usage"]["completion_tokens"] == 16

    def test_usage_can_be_left_out(self) -> None:
        assert "usage" not in answer({"rules": [{"answer": {"text": "hi", "usage": False}}]}, chat())[1]

    def test_verbatim_keeps_braces(self) -> None:
        assert said(answer({"rules": [{"answer": {"text": "{{/if}}", "verbatim": True}}]}, chat(("user", "{}")))[1]) == "{{/if}}"


class TestServer:
    def test_requests_are_kept_and_counted(self) -> None:
        with ScriptedModel.start({"model": "scripted-1", "rules": [{"answer": {"text": "hi"}}]}) as model:
            _, completion = post(model, chat(("user", "one")))
            post(model, chat(("user", "two")))
            assert [request["messages"][0]["content"] for request in model.requests] == ["one", "two"]
            assert (model.count, completion["model"]) == (2, "scripted-1")

    def test_models_are_listed(self, model: ScriptedModel) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(model.base_url + "/models", timeout=10) as response:
            assert json.load(response)["data"][0]["object"] == "model"

    @pytest.mark.parametrize(
        ("path", "body", "status", "word"),
        [
            ("/embeddings", {}, 404, "not served"),
            ("/chat/completions", b"{", 400, "not JSON"),
            ("/chat/completions", [], 400, "list of messages"),
            ("/chat/completions", {"messages": ["hi"]}, 400, "list of messages"),
            ("/chat/completions", {"messages": [], "stream": True}, 400, "does not stream"),
        ],
    )
    def test_what_it_does_not_understand_is_said(self, model: ScriptedModel, path: str, body: Any, status: int, word: str) -> None:
        found, answer = post(model, body, path)
        assert (found, word in answer["error"]["message"]) == (status, True)

    def test_fault_fires_so_often_and_then_lets_through(self) -> None:
        limited = {"fault": {"kind": "status", "status": 429, "retry_after": 3, "message": "slow down"}, "times": 2}
        with ScriptedModel.start({"rules": [limited, {"answer": {"text": "hi"}}]}) as model:
            found = [post(model, chat(("user", "x"))) for _ in range(3)]
        assert [status for status, _ in found] == [429, 429, 200]
        assert (found[0][1]["retry-after"], found[0][1]["error"]["message"]) == ("3", "slow down")

    def test_many_at_once_get_their_own_answers(self) -> None:
        playbook = {"rules": [{"answer": {"text": "{{/n}}"}, "delay": 0.02}]}

        async def one(model: ScriptedModel, number: int) -> tuple[str, Any]:
            _, completion = await asyncio.to_thread(post, model, chat(("user", json.dumps({"n": f"{number}"}))))
            return f"{number}", said(completion)

        async def many(model: ScriptedModel) -> list[tuple[str, Any]]:
            return await asyncio.gather(*(one(model, number) for number in range(24)))

        with ScriptedModel.start(playbook) as model:
            assert all(asked == got for asked, got in asyncio.run(many(model)))

    def test_stop_ends_what_hangs_and_the_thread(self) -> None:
        before = threading.active_count()
        with ScriptedModel.start({"rules": [{"fault": {"kind": "hang"}}]}) as model:

            async def ask() -> bytes:
                port = int(model.base_url.split(":")[2].split("/")[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                body = json.dumps(chat()).encode()
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await asyncio.to_thread(model.wait_until, lambda: model.count == 1)
                await asyncio.to_thread(model.stop)
                try:
                    return await reader.read()
                except ConnectionResetError:
                    return b""
                finally:
                    writer.close()

            assert asyncio.run(ask()) == b""
        assert threading.active_count() == before


class TestBadPlaybooks:
    @pytest.mark.parametrize(
        ("rule", "where"),
        [
            ([], "rule 2: it is not an object"),
            ({}, "rule 2: it has not exactly one"),
            ({"answer": {"text": ""}, "fault": {"kind": "drop"}}, "rule 2: it has not exactly one"),
            ({"anser": {}}, "rule 2, field 'anser'"),
            ({"answer": {}}, "rule 2, field 'answer'"),
            ({"answer": {"text": "a", "json": 1}}, "rule 2, field 'answer'"),
            ({"answer": {"txt": "a"}}, "rule 2, field 'answer.txt'"),
            ({"answer": {"tool_calls": [{"arguments": {}}]}}, "rule 2, field 'answer.tool_calls'"),
            ({"answer": {"text": "a"}, "times": 1}, "rule 2, field 'times'"),
            ({"answer": {"text": "a"}, "turns": -1}, "rule 2, field 'turns'"),
            ({"answer": {"text": "a"}, "tool_results": "1"}, "rule 2, field 'tool_results'"),
            ({"answer": {"text": "a"}, "agent": "("}, "rule 2, field 'agent'"),
            ({"answer": {"text": "a"}, "delay": "1"}, "rule 2, field 'delay'"),
            ({"fault": {"kind": "explode"}}, "rule 2, field 'fault.kind'"),
            ({"fault": {"kind": "status", "status": 200}}, "rule 2, field 'fault.status'"),
            ({"fault": {"kind": "status", "retry_after": "1"}}, "rule 2, field 'fault.retry_after'"),
        ],
    )
    def test_complaint_names_rule_and_field(self, rule: Any, where: str) -> None:
        with pytest.raises(BadDeclaration) as refused:
            Playbook.load({"rules": [{"answer": {"text": "fine"}}, rule]})
        assert where in str(refused.value)

    def test_file_that_is_none(self, tmp_path: Any) -> None:
        broken = tmp_path / "broken.json"
        broken.write_text("{")
        for path in (broken, tmp_path / "missing.json"):
            with pytest.raises(BadDeclaration, match=str(path)):
                Playbook.load(path)
        with pytest.raises(BadDeclaration, match="list `rules`"):
            Playbook.load({"rule": []})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class TestTemplates:
    @given(JSON, st.text(min_size=1).filter(lambda key: not set(key) & set("{}")))
    def test_whole_citation_keeps_type_and_value(self, value: Any, key: str) -> None:
        pointer = key.replace("~", "~0").replace("/", "~1")
        assert filled({"a": ["{{/" + pointer + "}}"]}, {key: value}, None) == {"a": [value]}

    @given(JSON.filter(lambda value: "{{" not in json.dumps(value)))
    def test_what_cites_nothing_stays(self, value: Any) -> None:
        assert filled(value, None, None) == value

    def test_inside_a_text_it_is_written_as_json(self) -> None:
        assert filled("n={{/n}}, l={{tool/0}}, {{}} {x}", {"n": 1}, [["a"]]) == 'n=1, l=["a"], {{}} {x}'

    @pytest.mark.parametrize("pointer", ["/missing", "/list/9", "/list/x", "/text/0", "tool/x"])
    def test_nothing_there(self, pointer: str) -> None:
        with pytest.raises(NoValue):
            filled("{{" + pointer + "}}", {"list": [1], "text": "ab"}, None)

    def test_lines_become_a_text(self) -> None:
        assert unfolded({"diff": {"$lines": ["--- a", "+++ b"]}}) == {"diff": "--- a\n+++ b\n"}


def test_conversation_is_all_that_an_answer_depends_on() -> None:
    """Whatever was asked before, in whatever order, each conversation gets the answer that it gets alone."""
    playbook = Playbook.load(INVOICING)
    requests = [chat(("system", "You invoice."), ("user", json.dumps({"order": number}))) for number in range(5)]
    ask: Callable[[Counter[int]], list[bytes]] = lambda fired: [playbook.reply(request, fired).body for request in requests]  # noqa: E731
    fired: Counter[int] = Counter()
    assert ask(fired) == ask(fired) == [playbook.reply(request, Counter()).body for request in reversed(requests)][::-1]


def test_playbook_in_the_documentation_works() -> None:
    """The page's own playbook answers the conversation that the page describes."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "testing-agents.md").read_text()
    [source] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    playbook = Playbook.load(json.loads(source))
    turns = [("system", "You are the invoicing agent."), ("user", '{"order_id": "7294"}')]
    fired: Counter[int] = Counter()
    assert [playbook.reply(chat(*turns), fired).status for _ in range(2)] == [429, 200]
    turns += [("assistant", ""), ("tool", '{"total": "118.00"}')]
    _, completion = answer(playbook, chat(*turns))
    assert json.loads(said(completion)) == {"order_id": "7294", "status": "draft", "total": "118.00"}
