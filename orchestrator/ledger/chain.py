"""The hash chain: why a ledger cannot be changed unseen.

Each entry's hash covers the hash before it, the entry's header and its data exactly as stored. `verify` walks the chain and names the
first entry that does not fit: changed, removed or moved. Entries cut off at the very end leave an intact chain; only a head that was kept
elsewhere shows that.
"""

import struct
from collections.abc import Iterable
from hashlib import sha256

from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerDamaged

GENESIS = sha256(b"interlock ledger 1").digest()
"""Stands before entry 1."""

_HEADER = struct.Struct(">QQqII")


def link(previous: bytes, seq: int, epoch: int, at: int, task: str, kind: str, data: bytes) -> bytes:
    """The hash of an entry. The header has fixed widths and says how long its texts are, so no two entries have the same bytes."""
    who, what = task.encode(), kind.encode()
    return sha256(b"".join((previous, _HEADER.pack(seq, epoch, at, len(who), len(what)), who, what, data))).digest()


def verify(entries: Iterable[Entry]) -> int:
    """How many entries there are, from entry 1 on, all intact; else `LedgerDamaged` with the first that is not."""
    previous, expected = GENESIS, 1
    for entry in entries:
        if entry.seq != expected:
            raise LedgerDamaged(seq=expected, problem=f"it is missing, entry {entry.seq} stands in its place")
        if _rehash(previous, entry) != entry.hash:
            raise LedgerDamaged(seq=expected, problem="its hash does not fit its content and the entry before it")
        previous, expected = entry.hash, expected + 1
    return expected - 1


def _rehash(previous: bytes, entry: Entry) -> bytes:
    try:
        return link(previous, entry.seq, entry.epoch, entry.at, entry.task, entry.kind, entry.data)
    except (TypeError, struct.error, UnicodeError):  # a field that is no longer what an entry holds
        return b""
