"""Sealing: what was appended becomes what is stored, a batch at a time, where it is written.

An entry's head stays as it is. Its content is sealed under its task's key and stands behind the head, so the chain covers it as stored and
stays whole when the key is destroyed. What model calls said is kept by name beside the entries, and the name is under the seal. A secret is
part of the batch that first uses it: it is durable with its entry or not at all.

All of this is the writer thread's: the event loop hands over bytes and has its numbers at once.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from interlock.orchestrator.ledger.chain import link
from interlock.orchestrator.ledger.cipher import NO_SECRET, SECRET_BYTES, Cipher, ContentRow, KeyRow
from interlock.orchestrator.ledger.contents import Contents
from interlock.orchestrator.ledger.projections import PROJECTED
from interlock.schemas.canonical import decode, encode
from interlock.schemas.entries import ERASED, SEAL, ContentPruned, Entry, TaskEnded, TaskErased

NAMES = "$"
"""Under the seal: the names of what is kept beside the entries, by field. No field is called so."""

Appended = tuple[int, int, int, str, str, bytes, bytes, dict[str, Any]]
"""An entry as it was appended: its number, epoch, time, task and kind, and the three parts of its fact."""

_ENDS = (TaskErased.KIND, ContentPruned.KIND)
_CIPHERS = 8192
_NONCES = 1 << 96


class Stored(NamedTuple):
    """An entry's fields in their order, as they are stored."""

    seq: int
    epoch: int
    at: int
    task: str
    kind: str
    data: bytes
    hash: bytes


class Sealed(NamedTuple):
    """A batch as it is to be stored. `opened` are those of its entries that may change a row, to be read; `keys` are new. First the keys of
    `erased` tasks are to be destroyed, and what is kept by name of them and of `pruned` ones deleted: `contents` came after that."""

    entries: list[Stored]
    opened: list[Entry]
    keys: list[KeyRow]
    contents: list[ContentRow]
    erased: list[str]
    pruned: list[str]


class Sealer:
    """Seals all batches of one writer, in order. `head` is the hash that the first one continues, `secrets` looks up those of tasks."""

    def __init__(
        self,
        head: bytes,
        secrets: Callable[[Sequence[str]], Iterable[KeyRow]],
        random: Callable[[int], bytes] = os.urandom,
        every: bool = False,
    ) -> None:
        self._head, self._secrets, self._random, self._every = head, secrets, random, every
        self._nonce = int.from_bytes(random(12))  # counted on from here: no nonce comes twice, and another writer's are others
        self._ciphers: dict[str, Cipher | None] = {}
        self._contents = Contents()

    def seal(self, batch: Sequence[Appended]) -> Sealed:
        """Whatever is raised here is raised before anything is done."""
        sealed = Sealed([], [], self._take_keys(batch), [], [], [])
        head, entries = self._head, sealed.entries
        for seq, epoch, at, task, kind, data, content, kept in batch:
            gone = ""
            if content or kept:
                under = self._under_seal(task, content, kept, sealed.contents)
                gone = "" if under else ERASED
                data = b"".join((data, SEAL, under))
            elif kind in _ENDS:
                self._note_end(task, kind, sealed)
            head = link(head, seq, epoch, at, task, kind, data)
            stored = Stored(seq, epoch, at, task, kind, data, head)
            entries.append(stored)
            if self._every or kind in PROJECTED:
                sealed.opened.append(Entry(*stored, b"" if gone else _opened(content, kept), gone))
        self._head = head
        self._forget(batch)
        return sealed

    def _take_keys(self, batch: Sequence[Appended]) -> list[KeyRow]:
        """Have the ciphers of all tasks in the batch at hand; the secrets that are new."""
        known = self._ciphers
        wanted = {entry[3]: None for entry in batch if entry[3] not in known and (entry[6] or entry[7] or entry[4] == TaskErased.KIND)}
        if not wanted:
            return []
        found = dict(self._secrets(list(wanted)))
        fresh = [KeyRow(task, self._random(SECRET_BYTES)) for task in wanted if task not in found]
        for task, secret in (*found.items(), *fresh):
            known[task] = Cipher(secret) if secret != NO_SECRET else None
        return fresh

    def _under_seal(self, task: str, content: bytes, kept: dict[str, Any], rows: list[ContentRow]) -> bytes:
        """What stands behind the seal. Nothing is kept of a task that was erased."""
        cipher = self._ciphers[task]
        if cipher is None:
            return b""
        if kept:
            names = {}
            for field, value in kept.items():
                name, new = self._contents.take(task, cipher, value)
                names[field] = name.hex()
                rows += new
            content = encode({**(decode(content) if content else {}), NAMES: names})
        self._nonce = (self._nonce + 1) % _NONCES
        return cipher.seal(content, self._nonce.to_bytes(12))

    def _note_end(self, task: str, kind: str, sealed: Sealed) -> None:
        """What came before it is gone with all that was stored: neither is it stored, nor taken for stored."""
        sealed.contents[:] = [row for row in sealed.contents if row.task != task]
        self._contents = Contents()
        if kind == TaskErased.KIND:
            self._ciphers[task] = None
            sealed.erased.append(task)
        else:
            sealed.pruned.append(task)

    def _forget(self, batch: Sequence[Appended]) -> None:
        """A task that has ended needs its cipher no more, and of many others the longest known is looked up again."""
        for entry in batch:
            if entry[4] == TaskEnded.KIND:
                self._ciphers.pop(entry[3], None)
        while len(self._ciphers) > _CIPHERS:
            del self._ciphers[next(iter(self._ciphers))]


def _opened(content: bytes, kept: dict[str, Any]) -> bytes:
    """The content as a reader finds it."""
    return encode({**(decode(content) if content else {}), **kept}) if kept else content
