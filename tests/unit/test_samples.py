"""Messages made up from a schema: all are valid, many differ, and the same seed makes the same."""

from typing import Any

import pytest
from pydantic import Field

from interlock import Message
from interlock.schemas.registry.replay import validator
from interlock.schemas.registry.samples import samples


class Leaf(Message):
    name: str = Field(min_length=1, max_length=5)
    weight: float = Field(gt=0, le=10)


class Tree(Message, contract="samples.tree", version="1.0.0"):
    leaf: Leaf | None
    children: "list[Tree]" = Field(default_factory=list)
    labels: dict[str, int] = Field(default_factory=dict, max_length=3)
    kind: str = Field(default="oak", pattern="^(oak|elm)$")
    count: int = Field(default=1, ge=1, multiple_of=3)


SCHEMAS: dict[str, dict[str, Any]] = {
    "tree": Tree.json_schema(),
    "choice": {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]},
    "all": {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
    "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["x", "y"]}], "minItems": 2, "items": False},
    "anything": {},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_all_are_allowed_and_many_differ(name: str) -> None:
    found, allows = samples(SCHEMAS[name], 60), validator(SCHEMAS[name], 2020).is_valid
    assert len(found) == 60
    assert all(map(allows, found))
    assert len({repr(one) for one in found}) > 2
    assert found == samples(SCHEMAS[name], 60)
    assert found != samples(SCHEMAS[name], 60, seed=1)


def test_what_chance_never_finds_is_searched_for() -> None:
    assert samples({"type": "string", "pattern": "^order-[0-9]{6}$"}) != []
    assert samples({"type": "string", "minLength": 3, "maxLength": 2}) == []
