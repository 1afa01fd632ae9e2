"""Every envelope is a valid CloudEvents 1.0 JSON event and comes back as it went."""

import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import decode, encode
from interlock.schemas.envelope import Envelope
from interlock.schemas.specs import ContractRef

# The rules of CloudEvents 1.0 for its own attributes, as its JSON format states them.
CLOUDEVENTS = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string", "format": "uri", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "data": {},
    },
    "required": ["id", "source", "specversion", "type"],
    # What is left are extension attributes: strings, whole numbers of 32 bits, booleans.
    "additionalProperties": {"type": ["string", "boolean", "integer"], "minimum": -(2**31), "maximum": 2**31 - 1},
}
RULES = jsonschema_rs.Draft202012Validator(CLOUDEVENTS, validate_formats=True)

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z][a-z0-9_]{0,8}){0,3}", fullmatch=True)
VERSIONS = st.from_regex(r"(0|[1-9][0-9]{0,2})\.[0-9]\.[0-9](-rc\.[0-9])?(\+[a-z0-9]{1,4})?", fullmatch=True)
IDS = st.from_regex(r"[a-z]{3}_[0-9a-z-]{1,26}", fullmatch=True)
TIMES = st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "Z")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
PAYLOADS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT, max_size=2), max_size=4)
ENVELOPES = st.builds(
    Envelope,
    id=IDS,
    source=st.from_regex(r"(workflow|agent)/[a-z_]{1,12}", fullmatch=True),
    contract=st.builds(ContractRef, NAMES, VERSIONS),
    subject=IDS,
    time=TIMES,
    data=PAYLOADS.map(encode),
    traceparent=st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True),
    correlationid=IDS,
    causationid=IDS,
    label=st.sampled_from(["trusted", "untrusted:tool:fetch", "untrusted:field:note,tool:fetch"]),
    attempt=st.just("") | st.from_regex(r"[1-9]{1,3}\.[0-9]{1,3}", fullmatch=True),
    deadline=st.just("") | TIMES,
)


@given(ENVELOPES)
def test_an_envelope_comes_back_as_it_went(envelope: Envelope) -> None:
    assert Envelope.decode(envelope.encode()) == envelope
    assert Envelope.decode(envelope.encode().decode()) == envelope


@given(ENVELOPES)
def test_an_envelope_is_a_cloudevent(envelope: Envelope) -> None:
    wire = decode(envelope.encode())
    RULES.validate(wire)
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in wire)
    assert wire["dataschema"] == f"interlock:{envelope.contract.name}:{envelope.contract.version}"
    assert ("attempt" in wire, "deadline" in wire) == (bool(envelope.attempt), bool(envelope.deadline))


@given(ENVELOPES)
def test_the_payload_is_embedded_byte_for_byte(envelope: Envelope) -> None:
    assert b'"data":' + envelope.data in envelope.encode()
    assert b"\n" not in envelope.encode()


def _example() -> dict[str, Any]:
    wire = {
        "specversion": "1.0",
        "id": "dsp_1",
        "source": "workflow/delivery",
        "type": "review.request",
        "subject": "tsk_1",
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
        "dataschema": "interlock:review.request:1.0.0",
        "data": {"diff": "…"},
        "traceparent": "00-" + "0" * 31 + "1-" + "0" * 15 + "1-00",
        "correlationid": "tsk_1",
        "causationid": "dsp_0",
        "label": "trusted",
    }
    RULES.validate(wire)
    return wire


@pytest.mark.parametrize("change", [{"specversion": "0.3"}, {"type": "other.contract"}, {"dataschema": "https://example.com/schema"}])
def test_a_foreign_event_is_refused(change: dict[str, str]) -> None:
    Envelope.decode(encode(_example()))
    with pytest.raises(ValueError, match="not an Interlock envelope"):
        Envelope.decode(encode({**_example(), **change}))
