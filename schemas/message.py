"""Messages: JSON that satisfies one version of one contract, written as a Pydantic class.

A message is closed (unknown fields are refused on both sides) and frozen, so what was validated is what travels.
"""

from copy import deepcopy
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, TypeVar

import semver
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration, Unreadable
from interlock.schemas.words import clean

T = TypeVar("T")
M = TypeVar("M", bound="Message")

UNTRUSTED_KEY = "x-interlock-untrusted"


class _UntrustedMark:
    """Marks a field whose content comes from outside: whoever reads the message is told, and its label says so."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        schema = dict(handler(core))
        schema[UNTRUSTED_KEY] = True
        return schema


Untrusted = Annotated[T, _UntrustedMark()]
"""`Untrusted[str]`: a field that carries what outsiders wrote (mail, web pages, tickets). Validation is that of `str`."""


class Message(BaseModel):
    """Base of every message class: `class Order(Message, contract="order.placed", version="1.0.0")`.

    `contract` is a dotted lower-case name, `version` is semver. `Message.json_schema()` is the contract itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    contract: ClassVar[str] = ""
    contract_version: ClassVar[str] = ""

    def __init_subclass__(cls, contract: str = "", version: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if bool(contract) != bool(version):
            raise BadDeclaration(what=f"class {cls.__name__}", problem="contract= and version= go together", remedy="Give both.")
        if contract:
            if not all(part.isidentifier() and part == part.lower() for part in contract.split(".")):
                raise BadDeclaration(
                    what=f"class {cls.__name__}",
                    problem=f"{contract!r} is no contract name",
                    remedy="Use dotted lower-case words, as in invoice.request.",
                )
            if not semver.Version.is_valid(version):
                raise BadDeclaration(what=f"class {cls.__name__}", problem=f"{version!r} is no version", remedy="Use semver, as in 1.0.0.")
        cls.contract, cls.contract_version = contract, version

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema 2020-12 that this class writes and reads; closed unless a field says otherwise."""
        return deepcopy(_schema(cls))

    def encoded(self) -> bytes:
        """The bytes that travel: JSON with sorted keys."""
        return encode(self.__pydantic_serializer__.to_python(self, mode="json"))


def read_message(cls: type[M], data: bytes) -> M:
    """The message in `data`; `Unreadable` where the class refuses what its contract allowed."""
    try:
        message: M = cls.__pydantic_validator__.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        pointer, problem = "/" + "/".join(map(str, first["loc"])), clean(first["msg"])
        raise Unreadable(cls=cls.__name__, contract=cls.contract, version=cls.contract_version, pointer=pointer, problem=problem) from None
    return message


@cache
def _schema(cls: type[Message]) -> dict[str, Any]:
    schema = cls.model_json_schema(schema_generator=GenerateJsonSchema, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@lru_cache(maxsize=4096)
def contract_of(cls: type[Message]) -> tuple[str, str]:
    """Contract name and version of a message class; `BadDeclaration` for a class that names none."""
    if not cls.contract:
        raise BadDeclaration(
            what=f"class {cls.__name__}",
            problem="it names no contract",
            remedy=f'Write class {cls.__name__}(Message, contract="…", version="1.0.0").',
        )
    return cls.contract, cls.contract_version


__all__ = ["UNTRUSTED_KEY", "Message", "Untrusted", "contract_of", "read_message"]
