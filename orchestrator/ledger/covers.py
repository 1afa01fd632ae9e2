"""Covers: what the tasks' secrets lie under in a PostgreSQL, which never overwrites a row where it is.

A destroyed secret would stay in the file of its table until the whole of it is written anew, and that table grows for ever. So a secret is
stored masked by a cover that it shares with a few others, and the covers are a small table, soon written anew. Where a secret is to be
destroyed its cover is: the others get a new one, and what is left of the rows before is noise. The server's own statistics, to which
ANALYZE copies what it sees, have nothing of either (layout 6).
"""

import hmac
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from interlock.orchestrator.ledger.cipher import NO_SECRET, SECRET_BYTES, KeyRow

COVERS = 4096
"""Few enough to be written anew in some milliseconds, enough that under each there are few secrets, however long the ledger is."""

_COVER_BYTES = 32


class CoveredRow(NamedTuple):
    """A task's secret under its cover; `NO_SECRET` as it is."""

    task: str
    secret: bytes
    cover: int


def new_covers(tasks: Iterable[str]) -> dict[int, bytes]:
    """Others instead of those that the secrets of these tasks lie under."""
    return {cover_of(task): os.urandom(_COVER_BYTES) for task in tasks}


def cover_of(task: str) -> int:
    """The number of the cover that its secret lies under: always this one. The row says it too, so that those under one are found."""
    return zlib.crc32(task.encode()) % COVERS


def covered(keys: Iterable[KeyRow], covers: Mapping[int, bytes]) -> list[CoveredRow]:
    """These secrets as they are stored."""
    numbered = ((task, secret, cover_of(task)) for task, secret in keys)
    return [CoveredRow(task, _masked(covers[cover], task, secret), cover) for task, secret, cover in numbered]


def uncovered(rows: Iterable[CoveredRow], covers: Mapping[int, bytes]) -> list[KeyRow]:
    """The secrets that are stored so."""
    return [KeyRow(task, _masked(covers[cover], task, secret)) for task, secret, cover in rows]


def renewed(rows: Iterable[CoveredRow], old: Mapping[int, bytes], new: Mapping[int, bytes], erased: Sequence[str]) -> list[KeyRow]:
    """What is to be stored instead of these secrets, by task, under new covers; of `erased` tasks nothing that says anything."""
    gone = set(erased)
    kept = [row for row in rows if row.secret != NO_SECRET]
    known = zip(kept, uncovered(kept, old), strict=True)
    return [KeyRow(row.task, NO_SECRET if row.task in gone else _masked(new[row.cover], *key)) for row, key in known]


def _masked(mask: bytes, task: str, secret: bytes) -> bytes:
    """Under the cover what was bare, and bare what was under it."""
    if secret == NO_SECRET:
        return NO_SECRET
    noise = hmac.digest(mask, task.encode(), "sha512")
    return (int.from_bytes(secret) ^ int.from_bytes(noise)).to_bytes(SECRET_BYTES)
