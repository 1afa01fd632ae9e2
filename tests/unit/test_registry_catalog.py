"""The catalog admits only what cannot break anybody, and says in one sentence why it refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import decode
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import (
    BadDeclaration,
    ContractConflict,
    DishonestVersion,
    IncompatibleContract,
    InvalidMessage,
    InvalidSchema,
    RemoteReference,
    UnknownContract,
)
from interlock.schemas.message import Message
from interlock.schemas.record import Outcome, RunRecord, ToolCall
from interlock.schemas.registry import catalog as catalog_module
from interlock.schemas.registry.builtin import builtin
from interlock.schemas.registry.catalog import Catalog
from interlock.schemas.registry.explain import PROBLEM_CHARS, Problem
from interlock.schemas.registry.versions import in_order, next_major, next_patch, same_major
from interlock.schemas.specs import ContractRef


class Order(Message, contract="shop.order", version="1.0.0"):
    order_id: str
    state: str | None = None


class Wider(Message, contract="shop.order", version="1.1.0"):
    order_id: str
    state: str | None = None
    note: str = ""


STRING = {"type": "string"}


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.register("shop.order", "1.0.0", Order.json_schema())
    return catalog


def test_registering_twice_is_nothing_new(catalog: Catalog) -> None:
    assert catalog.register("shop.order", "1.0.0", Order.json_schema()) is False
    assert catalog.register("shop.order", "1.1.0", Wider.json_schema()) is True
    assert catalog.versions("shop.order") == ["1.0.0", "1.1.0"]
    assert catalog.latest("shop.order") == "1.1.0"
    assert catalog.known() == [ContractRef("shop.order", "1.0.0"), ContractRef("shop.order", "1.1.0")]


def test_what_was_admitted_does_not_change_with_the_callers_dict() -> None:
    catalog, schema = Catalog(), {"type": "object", "properties": {"a": dict(STRING)}}
    catalog.register("x", "1.0.0", schema)
    schema["properties"]["a"]["type"] = "integer"  # type: ignore[index]
    assert catalog.get("x", "1.0.0")["properties"]["a"] == STRING


def test_other_content_under_a_published_version_is_refused(catalog: Catalog) -> None:
    catalog.register("shop.order", "1.1.0", Wider.json_schema())
    with pytest.raises(ContractConflict) as refusal:
        catalog.register("shop.order", "1.0.0", Wider.json_schema())
    assert refusal.value.next_version == "1.1.1"


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "strin"}, "/type"),
        ({"properties": {"a": {"minLength": -1}}}, "/properties/a/minLength"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern"),
        ({"$ref": "#/$defs/absent"}, "/"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
        ({"$schema": 7}, "/$schema"),
        ({"maximum": 10**30}, "/"),
        ({"default": {1, 2}, "enum": [object]}, "/"),
        (True, "/"),
    ],
)
def test_an_invalid_schema_is_refused(schema: Any, pointer: str) -> None:
    catalog = Catalog()
    with pytest.raises(InvalidSchema) as refusal:
        catalog.register("x", "1.0.0", schema)
    assert refusal.value.pointer == pointer
    assert catalog.known() == []


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: Any = STRING
    for _ in range(400):
        schema = {"items": schema}
    with pytest.raises(InvalidSchema):
        Catalog().register("x", "1.0.0", schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/a.json"},
        {"properties": {"a": {"$ref": "other.json"}}},
        {"$id": "https://example.com/a.json", "anyOf": [{"$ref": "b.json"}]},
        {"$dynamicRef": "https://example.com/a.json#x"},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$ref": "file:///etc/passwd"},
    ],
)
def test_a_reference_out_of_the_schema_is_refused(schema: Any) -> None:
    with pytest.raises(RemoteReference):
        Catalog().register("x", "1.0.0", schema)


def test_a_reference_out_of_the_schema_is_refused_where_data_and_schema_share_a_name() -> None:
    with pytest.raises(InvalidSchema, match="example"):
        Catalog().register("x", "1.0.0", {"properties": {"default": {"$ref": "https://example.com/a.json"}}})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": STRING}},
        {"$id": "https://example.com/a.json", "$ref": "https://example.com/a.json#/$defs/a", "$defs": {"a": STRING}},
        {"$id": "https://example.com/a.json", "$ref": "b.json", "$defs": {"b": {"$id": "b.json", "type": "string"}}},
        {"properties": {"$ref": STRING}, "default": {"$ref": "https://example.com/data"}},
        {"$dynamicRef": "#n", "$dynamicAnchor": "n"},
    ],
)
def test_a_reference_inside_the_schema_is_fine(schema: Any) -> None:
    assert Catalog().register("x", "1.0.0", schema)


def test_a_version_that_accepts_less_is_refused_within_its_major(catalog: Catalog) -> None:
    narrower = {**Order.json_schema(), "required": ["order_id", "state"]}
    with pytest.raises(IncompatibleContract) as refusal:
        catalog.register("shop.order", "1.1.0", narrower)
    assert (refusal.value.old_version, refusal.value.next_major) == ("1.0.0", "2.0.0")
    assert catalog.register("shop.order", "2.0.0", narrower)


def test_every_older_version_of_the_major_counts_not_only_the_last() -> None:
    catalog = Catalog()
    catalog.restore("x", "1.0.0", {"type": ["string", "null"]})
    catalog.restore("x", "1.1.0", STRING)
    with pytest.raises(IncompatibleContract) as refusal:
        catalog.register("x", "1.2.0", {"type": ["string", "integer"]})
    assert refusal.value.old_version == "1.0.0"


def test_a_version_in_between_must_not_accept_what_a_newer_one_refuses() -> None:
    catalog = Catalog()
    catalog.register("x", "1.1.0", STRING)
    with pytest.raises(IncompatibleContract, match=r"x 1\.1\.0 is not compatible with 1\.0\.5: 1\.1\.0 is registered already"):
        catalog.register("x", "1.0.5", {"type": ["string", "null"]})
    assert catalog.register("x", "1.0.5", {"type": "string", "maxLength": 3})


def test_a_doubt_is_a_refusal() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.0", {"type": "string", "pattern": "^(?!x)a+$"})
    with pytest.raises(IncompatibleContract, match="could not be proved: pattern"):
        catalog.register("x", "1.1.0", {"type": "string", "pattern": "^(?!y)a+$"})


def test_a_patch_accepts_no_more_than_what_it_follows() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.0", {"type": "string", "pattern": "^aa$"})
    with pytest.raises(DishonestVersion, match=r'"a" is accepted by 1\.0\.1 and refused by 1\.0\.0') as refusal:
        catalog.register("x", "1.0.1", {"type": "string", "pattern": "^a+$"})
    assert refusal.value.next_minor == "1.1.0"
    assert catalog.register("x", "1.0.1", {"type": "string", "pattern": "^a{2}$", "title": "the same"})
    assert catalog.register("x", "1.1.0", {"type": "string", "pattern": "^a+$"})
    assert catalog.register("x", "1.1.1-rc.1", {"type": "string", "pattern": "^a*$"})


def test_a_prerelease_in_between_does_not_hide_that_a_patch_accepts_more() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.0", {"type": "string"})
    catalog.register("x", "1.0.1-rc.1", {"type": "string"})
    with pytest.raises(DishonestVersion, match=r"accepted by 1\.0\.1 and refused by 1\.0\.0"):
        catalog.register("x", "1.0.1", {"type": ["string", "null"]})


def test_a_patch_in_between_is_held_against_the_patch_after_it() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.5", {"minimum": 1})
    with pytest.raises(
        DishonestVersion, match=r"1\.0\.5 is a patch of 1\.0\.4 by its number, and accepts more: 1\.0\.5 is registered already"
    ):
        catalog.register("x", "1.0.4", {"minimum": 2})


def test_restoring_needs_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(old: Any, new: Any) -> Any:
        raise AssertionError("compared")

    monkeypatch.setattr(catalog_module, "Pair", unexpected)
    catalog = Catalog()
    catalog.restore("x", "1.0.0", {"type": "integer"})
    catalog.restore("x", "1.1.0", STRING)
    catalog.validate("x", "1.1.0", "a")


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "", "1.0.0+build"])
def test_a_version_must_be_semver(version: str) -> None:
    with pytest.raises(BadDeclaration):
        Catalog().register("x", version, STRING)


@pytest.mark.parametrize("name", ["", "Shop.Order", "a b", "a..b", "a.1"])
def test_a_name_must_be_dotted_words(name: str) -> None:
    with pytest.raises(BadDeclaration):
        Catalog().register(name, "1.0.0", STRING)


def test_unknown_contracts_name_what_is_known(catalog: Catalog) -> None:
    with pytest.raises(UnknownContract, match=r"Known: shop\.order 1\.0\.0"):
        catalog.validate("shop.order", "3.0.0", {})
    with pytest.raises(UnknownContract, match=r"Known: shop\.order 1\.0\.0"):
        catalog.latest("absent")
    with pytest.raises(UnknownContract, match="Known: none"):
        Catalog().get("absent", "1.0.0")


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ({}, "/", '"order_id" is a required property'),
        ({"order_id": 7}, "/order_id", '7 is not of type "string"'),
        ({"order_id": "7", "stat": None}, "/", "'stat' was unexpected"),
        ([], "/", '[] is not of type "object"'),
    ],
)
def test_an_invalid_message_says_where_and_why(catalog: Catalog, value: Any, pointer: str, words: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        catalog.validate("shop.order", "1.0.0", value)
    assert refusal.value.pointer == pointer
    assert words in refusal.value.problem
    unexpected = ("stat",) if "stat" in value else ()
    assert catalog.problem("shop.order", "1.0.0", value) == Problem(pointer, refusal.value.problem, unexpected=unexpected)


def test_a_valid_message_has_no_problem(catalog: Catalog) -> None:
    value = decode(Order(order_id="7").encoded())
    catalog.validate("shop.order", "1.0.0", value)
    assert catalog.problem("shop.order", "1.0.0", value) is None


def test_the_branch_that_was_meant_is_explained() -> None:
    catalog = Catalog()
    choice = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"c": {"enum": ["x", "y"]}}, "required": ["c"]}]}
    catalog.register("x", "1.0.0", {"type": "object", "properties": {"b": choice, "a/b": STRING}})
    problem = catalog.problem("x", "1.0.0", {"b": {"c": "z"}})
    assert problem is not None
    assert (problem.pointer, problem.allowed, problem.given) == ("/b/c", ("x", "y"), "z")
    escaped = catalog.problem("x", "1.0.0", {"a/b": 1})
    assert escaped is not None
    assert escaped.pointer == "/a~1b"


def test_formats_are_annotations() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.0", {"type": "string", "format": "date-time"})
    catalog.validate("x", "1.0.0", "no time at all")


def test_the_explanation_of_a_hostile_value_is_bounded() -> None:
    catalog = Catalog()
    catalog.register("x", "1.0.0", {"type": "array", "items": {"$ref": "#"}, "maxItems": 1})
    catalog.register("y", "1.0.0", {"type": "string", "pattern": "^(a+)+$"})
    deep = decode("[" * 1000 + "1" + "]" * 1000)
    problem = catalog.problem("x", "1.0.0", deep)
    assert problem is not None
    long = catalog.problem("y", "1.0.0", "a" * 100_000 + "b")
    assert long is not None
    assert len(long.words) <= PROBLEM_CHARS + 1


def test_builtin_contracts_describe_what_really_travels() -> None:
    catalog = Catalog()
    for name, version, schema in builtin():
        assert catalog.register(name, version, schema)
    record = RunRecord(
        task_id="tsk_1",
        task_type="invoice",
        start_time="2030-01-01T00:00:00Z",
        end_time=None,
        steps=1,
        input_tokens=2,
        output_tokens=3,
        cost_usd="0.01",
        tool_calls=[ToolCall(tool="t", latency_ms=1.5, success=True)],
        outcome=Outcome.SUCCESS,
        error=None,
    )
    catalog.validate("interlock.run_record", "1.0.0", decode(record.encoded()))
    envelope = Envelope(
        id="dsp_1",
        source="workflow/x",
        contract=ContractRef("shop.order", "1.0.0"),
        subject="tsk_1",
        time="2030-01-01T00:00:00Z",
        data=b"{}",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        correlationid="tsk_1",
        causationid="",
        label="untrusted:mail",
        attempt="1.2",
    )
    catalog.validate("interlock.envelope", "1.0.0", decode(envelope.encode()))
    with pytest.raises(InvalidMessage):
        catalog.validate("interlock.envelope", "1.0.0", {**decode(envelope.encode()), "dataschema": "https://example.com"})


versions = st.builds("{}.{}.{}".format, st.integers(0, 3), st.integers(0, 12), st.integers(0, 12))


@given(st.lists(versions, min_size=1))
def test_the_next_versions_are_free_and_higher(taken: list[str]) -> None:
    patch, major = next_patch(taken[0], taken), next_major(taken)
    assert patch not in taken
    assert same_major(patch, taken[0])
    assert in_order([*taken, major])[-1] == major
    assert in_order([patch, *(other for other in taken if same_major(other, patch))])[-1] == patch


def test_versions_are_ordered_as_numbers() -> None:
    assert in_order(["1.10.0", "1.9.0", "1.9.0-rc.1"]) == ["1.9.0-rc.1", "1.9.0", "1.10.0"]
    assert next_patch("1.0.0-rc.1", ["1.0.0-rc.1"]) == "1.0.1"
