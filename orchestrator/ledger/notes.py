"""Signed notes and the checkpoints in them, to the letter of C2SP `signed-note` and `tlog-checkpoint`: other people's tools read ours.

A checkpoint says under a name (`origin`) how many entries a ledger has and what the root of their Merkle tree is. A note counts only where
a key that is known has signed it; signatures of others are left out of account, a bad one under a known key condemns the note.
"""

import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"
_SIGNED_BY = "— "


class BadNote(ValueError):
    """It is no note that the key has signed, or no checkpoint; the text says why."""


class Checkpoint(NamedTuple):
    """A ledger's head: the root over its first `size` entries."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signs, as it is handed to others: `NAME+ID+KEY`, the encoding that Go's `sumdb/note` began with."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Raises `BadNote`."""
        name, _, rest = text.strip().partition("+")
        id, _, encoded = rest.partition("+")
        raw = _bytes(encoded)
        if not _is_name(name) or len(raw) != 33 or raw[:1] != _ED25519:
            raise BadNote("that is no public Ed25519 key in the form NAME+ID+KEY")
        key = cls(name, raw[1:])
        if key.id.hex() != id:
            raise BadNote(f"the id in the public key is {id}, and its name and key give {key.id.hex()}")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.raw)}"

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    def open(self, note: str) -> str:
        """The text of a note that this key has signed. Raises `BadNote`."""
        text, gap, signatures = note.rpartition("\n\n")
        if not gap or not signatures.endswith("\n") or any(ord(sign) < 32 and sign != "\n" for sign in note):
            raise BadNote("it is not signed")
        text, signed = f"{text}\n", False
        for line in signatures[:-1].split("\n"):
            name, _, encoded = line.removeprefix(_SIGNED_BY).partition(" ")
            signature = _bytes(encoded)
            if not line.startswith(_SIGNED_BY) or not _is_name(name) or len(signature) < 5:
                raise BadNote("one of its signature lines cannot be read")
            if (name, signature[:4]) == (self.name, self.id):
                self._check(signature[4:], text)
                signed = True
        if not signed:
            raise BadNote(f"it is not signed by {self.name} with the key {self.id.hex()}")
        return text

    def checkpoint(self, note: str) -> Checkpoint:
        """The checkpoint in a note that this key has signed, under its name. Raises `BadNote`."""
        lines = self.open(note).split("\n")[:-1]
        if len(lines) < 3 or not all(lines):
            raise BadNote("it is no checkpoint")
        origin, size, root = lines[0], lines[1], _bytes(lines[2])
        if not (size.isascii() and size.isdigit() and str(int(size)) == size) or len(root) != 32:
            raise BadNote("it is no checkpoint")
        if origin != self.name:
            raise BadNote(f"it speaks of another ledger, {origin}")
        return Checkpoint(origin, int(size), root)

    def _check(self, signature: bytes, text: str) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            raise BadNote("its signature does not fit its text") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The secret half; `text` is how it is kept."""

    name: str
    seed: bytes

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key, and with it the name of a ledger that nobody else has."""
        return cls(f"interlock/{secrets.token_hex(8)}", secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """Raises `BadNote`."""
        name, _, rest = text.strip().removeprefix(_PRIVATE).partition("+")
        id, _, encoded = rest.partition("+")
        raw = _bytes(encoded)
        if not text.startswith(_PRIVATE) or len(raw) != 33 or raw[:1] != _ED25519:
            raise BadNote("that is no private Ed25519 key")
        key = cls(name, raw[1:])
        if not _is_name(name) or key.public.id.hex() != id:
            raise BadNote("the id in the private key does not fit it")
        return key

    def text(self) -> str:
        return f"{_PRIVATE}{self.name}+{self.public.id.hex()}+{_base64(_ED25519 + self.seed)}"

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.name, self._key.public_key().public_bytes_raw())

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def sign(self, text: str) -> str:
        """The note with this text, which ends in a newline."""
        return f"{text}\n{_SIGNED_BY}{self.name} {_base64(self.public.id + self._key.sign(text.encode()))}\n"


class Noted(NamedTuple):
    """One note of a history, and the line that it begins in."""

    line: int
    note: str


def history(text: str) -> Iterator[Noted]:
    """The notes of a history, an empty line after each. What is not signed, or was not written to its end, is among them."""
    line, begin, body = 1, 1, ""
    for block in text.split("\n\n"):
        if block.startswith(_SIGNED_BY):
            yield Noted(begin if body else line, f"{body}\n\n{block}\n")
            body = ""
        else:
            if body:
                yield Noted(begin, f"{body}\n")
            begin, body = line, block
        line += block.count("\n") + 2
    if body:
        yield Noted(begin, body)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(sign.isspace() for sign in name)


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    """What the text encodes; nothing where it does not."""
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _base64(raw) == text else b""
