"""The worst case of a call: never below what an endpoint could count, and refused where it is not known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.actors.models.bound import DEFAULT_CAP, bounded
from interlock.schemas.canonical import encode
from interlock.schemas.errors import UnboundedCall

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "tool"]), "content": TEXT}), max_size=5)


@given(MESSAGES)
def test_every_byte_of_content_may_be_a_token(messages: list[dict[str, str]]) -> None:
    found = bounded("m", encode({"messages": messages}))
    assert found.input >= sum(len(message["content"].encode()) + 16 for message in messages) + 512
    assert found.cap == DEFAULT_CAP


@given(MESSAGES, MESSAGES)
def test_more_never_bounds_lower(some: list[dict[str, str]], more: list[dict[str, str]]) -> None:
    assert bounded("m", encode({"messages": some + more})).input >= bounded("m", encode({"messages": some})).input


def test_tools_count() -> None:
    tool = {"type": "function", "function": {"name": "get_order", "parameters": {"type": "object"}}}
    without = bounded("m", encode({"messages": []})).input
    assert bounded("m", encode({"messages": [], "tools": [tool]})).input >= without + len(json.dumps(tool, separators=(",", ":")))


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"messages": [], "n": 2}, "'n'"),
        ({"messages": [], "stream": True}, "'stream'"),
        ({"messages": [], "web_search_options": {}}, "'web_search_options'"),
        ({"messages": [], "service_tier": "priority"}, "'service_tier'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]}, "'image_url'"),
        ({"messages": [], "tools": [{"type": "web_search"}]}, "'web_search'"),
        ({"messages": "hi"}, "not a list of objects"),
        ({"messages": [], "max_tokens": 0}, "output cap 0"),
        ({"messages": [], "max_completion_tokens": True}, "output cap True"),
        ([], "not a JSON object"),
    ],
)
def test_what_has_no_bound_is_refused(request_: Any, word: str) -> None:
    with pytest.raises(UnboundedCall) as refused:
        bounded("m", encode(request_))
    assert word in str(refused.value)


def test_no_json_is_refused() -> None:
    with pytest.raises(UnboundedCall, match="not JSON"):
        bounded("m", b"{")
