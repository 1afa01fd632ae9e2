"""Messages are closed, frozen, named and versioned; what comes from outside is marked."""

import jsonschema
import pytest
from pydantic import ValidationError

from interlock.schemas.canonical import decode
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.message import UNTRUSTED_KEY, Message, Untrusted, contract_of


class Line(Message):
    sku: str
    count: int


class Order(Message, contract="order.placed", version="1.2.0"):
    order_id: str
    lines: tuple[Line, ...] = ()
    note: Untrusted[str] = ""
    attachment: Untrusted[Line | None] = None


def test_a_contract_has_a_name_and_a_version() -> None:
    assert contract_of(Order) == ("order.placed", "1.2.0")


def test_a_message_is_closed() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Order.model_validate({"order_id": "1", "surprise": True})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Order.model_validate({"order_id": "1", "lines": [{"sku": "a", "count": 1, "surprise": True}]})


def test_the_schema_is_as_closed_as_the_class() -> None:
    schema = Order.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert validator.is_valid({"order_id": "1", "lines": [{"sku": "a", "count": 1}]})
    for wrong in ({}, {"order_id": 1}, {"order_id": "1", "surprise": 1}, {"order_id": "1", "lines": [{"sku": "a", "count": 1, "x": 1}]}):
        assert not validator.is_valid(wrong)


def test_a_message_is_frozen() -> None:
    order = Order(order_id="1")
    with pytest.raises(ValidationError, match="frozen"):
        order.order_id = "2"  # type: ignore[misc]


def test_what_outsiders_wrote_is_marked_and_nothing_else() -> None:
    properties = Order.json_schema()["properties"]
    assert [name for name, field in properties.items() if field.get(UNTRUSTED_KEY)] == ["note", "attachment"]


def test_untrusted_changes_no_validation() -> None:
    with pytest.raises(ValidationError):
        Order.model_validate({"order_id": "1", "note": 7})
    assert Order(order_id="1", note="hi").note == "hi"


def test_what_travels_is_what_was_validated() -> None:
    order = Order(order_id="1", lines=(Line(sku="a", count=2),), note="é")
    assert Order.model_validate(decode(order.encoded())) == order
    assert order.encoded().startswith(b'{"attachment":null,"lines":[{"count":2,"sku":"a"}]')


@pytest.mark.parametrize(
    ("contract", "version"), [("order.placed", ""), ("", "1.0.0"), ("Order", "1.0.0"), ("order..placed", "1.0.0"), ("order", "1.0")]
)
def test_a_badly_named_class_is_refused_where_it_is_written(contract: str, version: str) -> None:
    with pytest.raises(BadDeclaration):
        type("Wrong", (Message,), {}, contract=contract, version=version)


def test_a_class_without_a_contract_says_how_to_give_one() -> None:
    with pytest.raises(BadDeclaration, match=r"class Line\(Message, contract="):
        contract_of(Line)


def test_a_contract_is_not_inherited() -> None:
    class Special(Order):
        pass

    with pytest.raises(BadDeclaration):
        contract_of(Special)
