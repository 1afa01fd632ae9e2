"""The envelope: CloudEvents 1.0 JSON around every message that crosses the bus.

`dataschema` names contract and version, the extensions carry trace, causation, deadline, attempt and label. The payload is
bytes and stays bytes: `encode` embeds them, nothing is encoded twice.
"""

from functools import lru_cache
from typing import Any, NamedTuple, NotRequired, Self, TypedDict, Unpack

from interlock.schemas.canonical import decode, encode
from interlock.schemas.specs import ContractRef

_SCHEMA_PREFIX = "interlock:"
_OPTIONAL = ("attempt", "deadline")


class Envelope(NamedTuple):
    """One message on its way. `time` and `deadline` are RFC 3339 UTC; `deadline` is empty where there is none."""

    id: str
    source: str
    contract: ContractRef
    subject: str
    time: str
    data: bytes
    traceparent: str
    correlationid: str
    causationid: str
    label: str
    attempt: str = ""
    deadline: str = ""

    def head(self) -> bytes:
        """The attributes alone, as JSON: what travels beside the data in CloudEvents' binary mode."""
        return head_of(
            self.contract,
            id=self.id,
            source=self.source,
            subject=self.subject,
            time=self.time,
            traceparent=self.traceparent,
            correlationid=self.correlationid,
            causationid=self.causationid,
            label=self.label,
            attempt=self.attempt,
            deadline=self.deadline,
        )

    def encode(self) -> bytes:
        """The CloudEvents JSON object, one line of UTF-8."""
        return joined(self.head(), self.data)

    @classmethod
    def decode(cls, text: bytes | str) -> Self:
        """The envelope in a CloudEvents JSON object; `ValueError` where it is none of ours."""
        wire: dict[str, Any] = decode(text)
        return cls._of(wire, encode(wire["data"]))

    @classmethod
    def of(cls, head: bytes, data: bytes) -> Self:
        """The envelope of a `head` and the data beside it."""
        return cls._of(decode(head), data)

    @classmethod
    def _of(cls, wire: dict[str, Any], data: bytes) -> Self:
        contract = _contract_in(wire["dataschema"])
        if wire["specversion"] != "1.0" or contract.name != wire["type"]:
            raise ValueError("not an Interlock envelope: specversion, type or dataschema do not fit")
        return cls(
            wire["id"],
            wire["source"],
            contract,
            wire["subject"],
            wire["time"],
            data,
            wire["traceparent"],
            wire["correlationid"],
            wire["causationid"],
            wire["label"],
            wire.get("attempt", ""),
            wire.get("deadline", ""),
        )


@lru_cache(maxsize=1024)
def _contract_in(dataschema: str) -> ContractRef:
    name, _, version = dataschema.removeprefix(_SCHEMA_PREFIX).partition(":")
    return ContractRef(name, version)


class Attributes(TypedDict):
    """What the head of an envelope says beside its contract; as in `Envelope`."""

    id: str
    source: str
    subject: str
    time: str
    traceparent: str
    correlationid: str
    causationid: str
    label: str
    attempt: NotRequired[str]
    deadline: NotRequired[str]


def head_of(contract: ContractRef, **attributes: Unpack[Attributes]) -> bytes:
    """The head of an envelope with these attributes, for who needs no more of it."""
    head = {
        **attributes,
        "specversion": "1.0",
        "type": contract.name,
        "datacontenttype": "application/json",
        "dataschema": f"{_SCHEMA_PREFIX}{contract.name}:{contract.version}",
    }
    for name in _OPTIONAL:
        if not head.get(name, "there"):
            del head[name]
    return encode(head)


def parted(envelope: dict[str, Any]) -> tuple[bytes, bytes]:
    """Head and data of an envelope as JSON."""
    return encode({key: value for key, value in envelope.items() if key != "data"}), encode(envelope["data"])


def joined(head: bytes, data: bytes) -> bytes:
    """One JSON object of a head and its data; neither is parsed again."""
    return b'%b,"data":%b}' % (head[:-1], data)
