"""No keyword passes in silence: each that a draft's meta-schemas name is compared, or is an annotation, or is listed as not comparable."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import jsonschema_specifications
import pytest

from interlock.schemas import check
from interlock.schemas.registry.proof.document import DRAFT_7, DRAFT_2019, DRAFT_2020

URIS = {7: DRAFT_7, 2019: DRAFT_2019, 2020: DRAFT_2020}

STRING, INTEGER = {"type": "string"}, {"type": "integer"}

COMPARED: dict[str, tuple[Any, Any]] = {
    "type": ({"type": "integer"}, {"type": "number"}),
    "const": ({"const": 1}, {"enum": [1.0, 2]}),
    "enum": ({"enum": ["a"]}, {"enum": ["a", {"b": []}]}),
    "multipleOf": ({"multipleOf": 6}, {"multipleOf": 1.5}),
    "minimum": ({"minimum": 2}, {"minimum": 1}),
    "exclusiveMinimum": ({"exclusiveMinimum": 1}, {"minimum": 1}),
    "maximum": ({"maximum": 1}, {"maximum": 2}),
    "exclusiveMaximum": ({"type": "integer", "exclusiveMaximum": 3}, {"type": "integer", "maximum": 3.5}),
    "minLength": ({"minLength": 2}, {"minLength": 1}),
    "maxLength": ({"maxLength": 2}, {"maxLength": 3}),
    "pattern": ({"pattern": "^(ab){2}$"}, {"pattern": "^[ab]+$"}),
    "items": ({"items": INTEGER}, {"items": {"type": "number"}}),
    "minItems": ({"minItems": 2}, {"minItems": 1}),
    "maxItems": ({"maxItems": 1}, {"maxItems": 2}),
    "uniqueItems": ({"uniqueItems": True}, {"uniqueItems": False}),
    "contains": ({"contains": {"const": 1}}, {"contains": INTEGER}),
    "minProperties": ({"minProperties": 2}, {"minProperties": 1}),
    "maxProperties": ({"maxProperties": 1}, {"maxProperties": 2}),
    "required": ({"required": ["a", "b"]}, {"required": ["a"]}),
    "properties": ({"properties": {"a": INTEGER}}, {"properties": {"a": {"type": "number"}}}),
    "patternProperties": ({"patternProperties": {"^a": STRING}}, {"patternProperties": {"^ab": STRING}}),
    "additionalProperties": ({"additionalProperties": False}, {"properties": {"a": STRING}, "additionalProperties": False}),
    "propertyNames": ({"propertyNames": {"maxLength": 2}}, {"propertyNames": {"maxLength": 3}}),
    "allOf": ({"allOf": [STRING, {"minLength": 1}]}, {"allOf": [STRING]}),
    "anyOf": ({"anyOf": [STRING]}, {"anyOf": [STRING, INTEGER]}),
    "oneOf": ({"oneOf": [STRING, INTEGER]}, {"oneOf": [STRING, {"type": ["integer", "boolean"]}]}),
    "not": ({"not": {"type": "number"}}, {"not": INTEGER}),
    "if": ({"if": INTEGER, "then": {"minimum": 2}}, {"if": INTEGER, "then": {"minimum": 1}}),
    "then": ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"if": {"required": ["a", "c"]}, "then": {"required": ["b"]}}),
    "else": ({"if": INTEGER, "else": {"type": "string"}}, {"if": INTEGER, "else": {"type": ["string", "null"]}}),
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": INTEGER}}, {"$ref": "#/$defs/b", "$defs": {"b": {"type": "number"}}}),
    "$defs": ({"$ref": "#/$defs/a", "$defs": {"a": INTEGER}}, {"$ref": "#/$defs/a", "$defs": {"a": {"type": "number"}}}),
    "definitions": ({"$ref": "#/definitions/a", "definitions": {"a": INTEGER}}, {"$ref": "#/definitions/a", "definitions": {"a": True}}),
    "$id": (
        {"$id": "http://a.b/c", "items": {"$ref": "http://a.b/c#/$defs/d"}, "$defs": {"d": INTEGER}},
        {"$id": "http://a.b/e", "items": {"$ref": "e#/$defs/d"}, "$defs": {"d": {"type": "number"}}},
    ),
    "dependencies": ({"dependencies": {"a": ["b", "c"]}}, {"dependencies": {"a": {"required": ["b"]}}}),
}

LATER: dict[str, tuple[Any, Any]] = {
    "dependentRequired": ({"dependentRequired": {"a": ["b", "c"]}}, {"dependentRequired": {"a": ["b"]}}),
    "dependentSchemas": ({"dependentSchemas": {"a": False}}, {"dependentSchemas": {"a": {"required": ["b"]}}}),
    "minContains": ({"contains": INTEGER, "minContains": 3}, {"contains": INTEGER, "minContains": 2}),
    "maxContains": ({"contains": INTEGER, "maxContains": 2}, {"contains": INTEGER, "maxContains": 3}),
    "unevaluatedProperties": (
        {"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False},
        {"allOf": [{"properties": {"a": True, "b": True}}], "unevaluatedProperties": False},
    ),
    "unevaluatedItems": ({"unevaluatedItems": INTEGER}, {"unevaluatedItems": {"type": "number"}}),
    "$anchor": (
        {"$ref": "#x", "$defs": {"a": {"$anchor": "x", "type": "integer"}}},
        {"$ref": "#y", "$defs": {"a": {"$anchor": "y", "type": "number"}}},
    ),
}

ONLY: dict[int, dict[str, tuple[Any, Any]]] = {
    7: {"additionalItems": ({"items": [True], "additionalItems": False}, {"items": [True], "additionalItems": STRING})},
    2019: {
        "additionalItems": ({"items": [True], "additionalItems": INTEGER}, {"items": [True], "additionalItems": {"type": "number"}}),
        "$recursiveRef": (
            {"type": ["array", "integer"], "items": {"$recursiveRef": "#"}},
            {"type": ["array", "number"], "items": {"$recursiveRef": "#"}},
        ),
        "$recursiveAnchor": (
            {"$recursiveAnchor": True, "type": ["array", "null"], "items": {"$recursiveRef": "#"}},
            {"$recursiveAnchor": True, "type": ["array", "null"]},
        ),
    },
    2020: {
        "prefixItems": ({"prefixItems": [INTEGER, STRING]}, {"prefixItems": [INTEGER]}),
        "$dynamicRef": (
            {"$dynamicAnchor": "n", "type": ["array", "integer"], "items": {"$dynamicRef": "#n"}},
            {"$dynamicAnchor": "n", "type": ["array", "number"], "items": {"$dynamicRef": "#n"}},
        ),
        "$dynamicAnchor": (
            {"$ref": "#n", "$defs": {"a": {"$dynamicAnchor": "n", "type": "integer"}}},
            {"$ref": "#m", "$defs": {"a": {"$dynamicAnchor": "m", "type": "number"}}},
        ),
        # Both are gone from this dialect, and still named by its meta-schema.
        "$recursiveRef": ({"type": "integer"}, {"type": "number"}),
        "$recursiveAnchor": ({"type": "integer"}, {"type": "number"}),
    },
}

ANNOTATIONS: dict[str, tuple[Any, Any]] = {
    "title": ("a", "b"),
    "description": ("a", "b"),
    "default": (1, "b"),
    "examples": ([1], ["b"]),
    "$comment": ("a", "b"),
    "readOnly": (True, False),
    "writeOnly": (True, False),
    "deprecated": (True, False),
    "format": ("email", "uuid"),
    "contentEncoding": ("base64", "base16"),
    "contentMediaType": ("application/json", "text/plain"),
    "contentSchema": (STRING, INTEGER),
    "$schema": (None, None),
    "$vocabulary": ({"https://json-schema.org/draft/2020-12/vocab/core": True}, {}),
}

UNKNOWN = {7: {"contentEncoding", "contentMediaType"}, 2019: set[str](), 2020: set[str]()}
"""Validators assert these in draft 7, and what they accept cannot be compared."""


def keywords(draft: int) -> set[str]:
    """What the meta-schemas of a draft name."""
    registry, uri = jsonschema_specifications.REGISTRY, URIS[draft] + ("#" if draft == 7 else "")
    top = registry.contents(uri)
    parts = [top, *(registry.contents(urljoin(uri, part["$ref"])) for part in top.get("allOf", ()))]
    return {keyword for part in parts for keyword in part.get("properties", ())}


def compared(draft: int) -> dict[str, tuple[Any, Any]]:
    return {**COMPARED, **(LATER if draft > 7 else {}), **ONLY[draft]}


def cases() -> Iterator[Any]:
    for draft in URIS:
        yield from (pytest.param(draft, keyword, id=f"{draft}-{keyword}") for keyword in sorted(keywords(draft)))


@pytest.mark.parametrize(("draft", "keyword"), list(cases()))
def test_every_keyword_of_every_draft_is_compared_or_listed(draft: int, keyword: str) -> None:
    if keyword in UNKNOWN[draft]:
        one, other = ({keyword: value} for value in ANNOTATIONS[keyword])
        assert {check(one, other, dialect=draft).verdict, check({}, one, dialect=draft).verdict} <= {"unknown", "incompatible"}
        assert check(one, {**one, "title": "b"}, dialect=draft).verdict == "compatible"
    elif keyword in ANNOTATIONS:
        one, other = ({} if value is None else {keyword: value} for value in ANNOTATIONS[keyword])
        assert check(one, other, "full", dialect=draft).least_bump == "patch"
        assert check(one, {"not": {**other}}, dialect=draft).verdict == "incompatible"
    else:
        narrow, wide = compared(draft)[keyword]
        assert check(narrow, wide, dialect=draft).verdict == "compatible"
        refused = check(wide, narrow, dialect=draft)
        assert (refused.verdict, refused.refusal is None) == ("incompatible", False), refused


def test_the_meta_schemas_are_read_whole() -> None:
    assert {draft: len(keywords(draft)) for draft in URIS} == {7: 45, 2019: 59, 2020: 61}


def test_a_format_is_compared_where_a_contract_opts_in() -> None:
    email, free = {"type": "string", "format": "email"}, {"type": "string"}
    assert check(free, email).verdict == "compatible"
    assert check(email, free, formats=True).verdict == "compatible"
    assert check(email, {**email, "maxLength": 3}, formats=True).verdict == "unknown"
    assert check(free, email, formats=True).refusal is not None
    assert check(email, {**email, "format": "idn-email"}, formats=True).verdict == "unknown"
