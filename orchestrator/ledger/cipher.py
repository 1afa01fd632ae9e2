"""A task's key: what it seals nobody opens without it, and what it names nobody recognises.

A secret is made with a task's first content and lies beside the entries, not in them: they are for ever, it can be destroyed. It is an
AES-256-GCM key and a key for names (HMAC-SHA-256). Large content is compressed (zstd) before it is sealed.
"""

import hmac
import threading
from typing import NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 64
NAME_BYTES = 32
NO_SECRET = bytes(SECRET_BYTES)
"""Stands in the place of a secret that was destroyed; as long as one, so that it is written over it."""

LARGE = 4096
"""Content of so many bytes is compressed; for less it costs more time than it saves room."""

_OWN = threading.local()  # a compressor may be used by one thread at a time, and is expensive to make

_NONCE_BYTES = 12
_FRAME = zstandard.FRAME_HEADER
"""What is compressed begins so, and nothing else that is kept: neither JSON nor a list of names does."""


class KeyRow(NamedTuple):
    """A task's secret; `NO_SECRET` where the task was erased."""

    task: str
    secret: bytes


class ContentRow(NamedTuple):
    """A piece of content under its name, sealed."""

    task: str
    name: bytes
    data: bytes


class Unopened(Exception):
    """What was to be opened is not what was sealed under this key."""


class Cipher:
    """One task's secret at work. It keeps a few kilobytes of its own: have only so many."""

    def __init__(self, secret: bytes) -> None:
        self._aes, self._naming = AESGCM(secret[:32]), secret[32:]

    def seal(self, content: bytes, nonce: bytes) -> bytes:
        """The content under a nonce of 12 bytes that this key never meets again."""
        return nonce + self._aes.encrypt(nonce, _packed(content), None)

    def open(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises `Unopened`."""
        return self._opened(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:])

    def keep(self, content: bytes) -> tuple[bytes, bytes]:
        """The content's name, and what is stored under it: the same content has the same name and the same bytes under it."""
        name = hmac.digest(self._naming, content, "sha256")
        return name, self._aes.encrypt(name[:_NONCE_BYTES], _packed(content), None)

    def name(self, content: bytes) -> bytes:
        """The name alone."""
        return hmac.digest(self._naming, content, "sha256")

    def open_kept(self, name: bytes, data: bytes) -> bytes:
        """What has this name. Raises `Unopened`, also where it is something else under the same key."""
        content = self._opened(name[:_NONCE_BYTES], data)
        if not hmac.compare_digest(self.name(content), name):
            raise Unopened
        return content

    def _opened(self, nonce: bytes, sealed: bytes) -> bytes:
        try:
            return _unpacked(self._aes.decrypt(nonce, sealed, None))
        except (InvalidTag, ValueError, zstandard.ZstdError) as problem:
            raise Unopened from problem


def _packed(content: bytes) -> bytes:
    if len(content) < LARGE:
        return content
    if not hasattr(_OWN, "compressor"):
        _OWN.compressor = zstandard.ZstdCompressor()
    packed: bytes = _OWN.compressor.compress(content)
    return packed


def _unpacked(content: bytes) -> bytes:
    return zstandard.decompress(content) if content.startswith(_FRAME) else content
