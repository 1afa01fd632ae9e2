"""The base of what an entry says: a frozen record with a stable `KIND` and JSON fields."""

from dataclasses import dataclass
from typing import ClassVar

from interlock.schemas.canonical import encode


@dataclass(frozen=True, slots=True)
class Fact:
    """Base of what an entry says."""

    KIND: ClassVar[str] = ""

    def encode(self) -> bytes:
        return encode(self)
