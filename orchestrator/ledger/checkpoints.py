"""The signer of a ledger: its key, the tree over its durable entries, and the history of the heads that were signed.

The files lie in the ledger's folder and outside its database. Nothing is signed that does not continue what was signed before: a ledger
that ends before its last checkpoint, or has other entries below it, gets no further one. The tree is kept beside the history, signed too,
so that a restart reads only the entries that came after it.
"""

import contextlib
import errno
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

from interlock.orchestrator.ledger.merkle import Tree, leaf
from interlock.orchestrator.ledger.notes import BadNote, Checkpoint, PublicKey, SigningKey, history
from interlock.orchestrator.ledger.reader import Reads

HISTORY_FILE, KEY_FILE, PUBLIC_FILE, TREE_FILE = "checkpoints.log", "checkpoint.key", "checkpoint.pub", "checkpoints.tree"

_PAGE = 5000
_TAIL = 65536


class Unsignable(Exception):
    """What the ledger says contradicts what was signed; the text says how."""


class Signer:
    """For one thread at a time. `size`: entries in the tree; `note` and `signed`: the last checkpoint and its size."""

    def __init__(self, folder: Path, reads: Callable[[], Reads]) -> None:
        self._folder = folder
        self._reads = reads
        self._key: SigningKey | None = None
        self._tree, self._head = Tree(), b""
        self.note, self.signed = "", 0

    @property
    def size(self) -> int:
        return self._tree.size

    @property
    def public(self) -> PublicKey | None:
        return self._key.public if self._key is not None else None

    @property
    def place(self) -> str:
        return str(self._folder / HISTORY_FILE)

    def open(self, seq: int) -> None:
        """Make the key or read it, and take up the tree over the first `seq` entries. Raises `Unsignable` or `OSError`."""
        _cut_torn(self._folder / HISTORY_FILE)
        notes = _last_notes(self._folder / HISTORY_FILE)
        self._key = self._open_key(signed_before=bool(notes))
        last = self._last(notes)
        reads = self._reads()
        try:
            tree, head = self._kept_tree(reads, seq)
            if last is not None and last.size > seq:
                raise Unsignable(f"it ends at entry {seq} and a checkpoint of {last.size} entries was signed")
            self._tree, self._head = tree, head
            if last is not None and tree.size <= last.size:
                self._read_on(reads, last.size)
                if self._tree.root() != last.root:
                    raise Unsignable(f"its first {last.size} entries are not those that were signed")
            self._read_on(reads, seq)
        finally:
            reads.close()
        self.note, self.signed = (notes[-1], last.size) if last is not None else ("", 0)

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Take up the chain hashes of the next durable entries."""
        if hashes:
            self._tree.extend([leaf(one) for one in hashes])
            self._head = hashes[-1]

    def sign(self) -> None:
        """Sign the head and put it at the end of the history. Raises `OSError`; then it is not there."""
        assert self._key is not None, "opened before"
        lines = [f"{self._key.name}/tree", str(self._tree.size), *(b64encode(one).decode() for one in (self._head, *self._tree.peaks))]
        _replace(self._folder / TREE_FILE, self._key.sign("".join(f"{line}\n" for line in lines)))
        note = self._key.sign(Checkpoint(self._key.name, self._tree.size, self._tree.root()).text())
        append(self._folder / HISTORY_FILE, note)
        self.note, self.signed = note, self._tree.size

    def _open_key(self, signed_before: bool) -> SigningKey:
        path = self._folder / KEY_FILE
        try:
            key = SigningKey.parse(path.read_text())
        except FileNotFoundError:
            if signed_before:
                raise Unsignable(f"the key of its checkpoints, {path}, is gone") from None
            key = SigningKey.generate()
            _replace(path, f"{key.text()}\n", durable=True)
        except ValueError as problem:
            raise Unsignable(f"its key in {path} cannot be read: {problem}") from None
        _replace(self._folder / PUBLIC_FILE, f"{key.public}\n")
        return key

    def _last(self, notes: Sequence[str]) -> Checkpoint | None:
        assert self._key is not None, "read before"
        try:
            return self._key.public.checkpoint(notes[-1]) if notes else None
        except BadNote as problem:
            raise Unsignable(f"the last checkpoint in {self.place} does not count: {problem}") from None

    def _kept_tree(self, reads: Reads, seq: int) -> tuple[Tree, bytes]:
        """The tree as it was kept, once the ledger is seen to have that entry at its end; an empty one where none was."""
        assert self._key is not None, "read before"
        try:
            lines = self._key.public.open((self._folder / TREE_FILE).read_text()).split("\n")[:-1]
            size, (head, *peaks) = int(lines[1]), [b64decode(line) for line in lines[2:]]
            tree = Tree(size, peaks)
        except (FileNotFoundError, ValueError, IndexError):  # never kept, or not written to its end: read from the beginning
            return Tree(), b""
        if size > seq or reads.hashes(size - 1, 1) != [head]:
            raise Unsignable(f"entry {size} is not the one that was signed")
        return tree, head

    def _read_on(self, reads: Reads, seq: int) -> None:
        while self._tree.size < seq:
            found = reads.hashes(self._tree.size, min(_PAGE, seq - self._tree.size))
            if not found:
                raise Unsignable(f"entry {self._tree.size + 1} is missing")
            self.extend(found)


# --- files -----------------------------------------------------------------------------------------------------------------------


def append(path: Path, note: str) -> None:
    """Put a note at the end of a history, whole or not at all."""
    data = f"{note}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        end = os.fstat(handle).st_size
        if os.write(handle, data) != len(data):
            os.ftruncate(handle, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)


def last_note(path: Path) -> str:
    """The note at the end of a history; empty where there is none."""
    notes = _last_notes(path)
    return notes[-1] if notes else ""


def _last_notes(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            return [one.note for one in history(file.read().decode(errors="replace"))]
    except FileNotFoundError:
        return []


def _cut_torn(path: Path) -> None:
    """Remove what a power cut left of a note at the end. Whole ones stay, bad ones too."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        begin = max(0, path.stat().st_size - _TAIL)
        file.seek(begin)
        raw = file.read()
        end = len(raw)
        while (end := raw.rfind(b"\n\n", 0, end)) >= 0:
            if raw[raw.rfind(b"\n\n", 0, end) + 2 :].startswith("— ".encode()):
                break
        if end >= 0 or not begin:
            file.truncate(begin + end + 2 if end >= 0 else 0)


def _replace(path: Path, text: str, *, durable: bool = False) -> None:
    """Put a file in place whole, readable by its owner only from its first byte."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
