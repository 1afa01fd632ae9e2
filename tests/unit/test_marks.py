"""Marks are found however a contract is written; what the walk does not understand counts as untrusted."""

from typing import Any

import pytest

from interlock import Message, Untrusted
from interlock.orchestrator.marks import Marked, marked_in
from interlock.schemas.message import UNTRUSTED_KEY

MARK = {"type": "string", UNTRUSTED_KEY: True}
PLAIN = {"type": "string"}


class Node(Message, contract="marks.node", version="1.0.0"):
    mail: Untrusted[str] = ""
    plain: str = ""
    children: list["Node"]


class Clean(Message, contract="marks.clean", version="1.0.0"):
    plain: str = ""
    inner: list["Clean"]


def test_a_message_that_holds_its_own_kind_keeps_its_marks() -> None:
    schema = Node.model_json_schema()
    assert "properties" not in schema, "its root is a reference"
    assert marked_in(schema) == Marked(("children", "mail"), False)
    assert marked_in(Clean.model_json_schema()) == Marked((), False)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": MARK, "b": PLAIN}},
        {"allOf": [{"properties": {"b": PLAIN}}, {"properties": {"a": MARK}}]},
        {"anyOf": [{"properties": {"b": PLAIN}}, {"$ref": "#/$defs/x"}], "$defs": {"x": {"properties": {"a": MARK}}}},
        {"oneOf": [{"allOf": [{"$ref": "#/$defs/x"}]}], "$defs": {"x": {"properties": {"a": {"$ref": "#/$defs/y"}}}, "y": MARK}},
        {"if": {"properties": {"b": PLAIN}}, "then": {"properties": {"a": MARK}}},
        {"dependentSchemas": {"b": {"properties": {"a": MARK}}}},
        {"properties": {"a": {"items": {"properties": {"c": MARK}}}}},
        {"properties": {"a": {"$ref": "#/properties/b/x"}, "b": {"x": MARK, "type": "string"}}, "$comment": "b carries it too"},
        {"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": MARK, "b": {"$ref": "#/$defs/z"}}}, "z": PLAIN}},
    ],
)
def test_a_mark_is_found_wherever_the_root_leads(schema: dict[str, Any]) -> None:
    marked = marked_in(schema)
    assert "a" in marked.names
    assert not marked.whole


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^a": MARK}},
        {"additionalProperties": MARK},
        {"items": MARK},
        {"not": MARK},
        MARK,
        {"$ref": "#/$defs/nowhere", "$defs": {"x": MARK}},
        {"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", "properties": {"a": MARK}}}},
        {"$ref": "#anchor", "$defs": {"x": {"$anchor": "anchor", "properties": {"a": MARK}}}},
    ],
)
def test_what_is_not_understood_is_untrusted_as_a_whole(schema: dict[str, Any]) -> None:
    assert marked_in(schema).whole


def test_a_schema_that_goes_in_circles_is_walked_once() -> None:
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#"}], "properties": {"a": MARK}}}}
    assert marked_in(schema) == Marked(("a",), False)
