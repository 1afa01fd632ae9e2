"""Opening: stored entries with the content that is under their seals, for whoever reads.

What was erased or pruned is `Gone` in the fact, and the entry says which. Content that does not open though its key is there was
changed, or its key was: `LedgerDamaged` names the entry.
"""

from collections.abc import Callable, Iterable

from interlock.orchestrator.ledger.cipher import NO_SECRET, Cipher, Unopened
from interlock.orchestrator.ledger.contents import put_together
from interlock.orchestrator.ledger.sealer import NAMES
from interlock.schemas.canonical import Fragment, decode, encode
from interlock.schemas.entries import ERASED, PRUNED, SEAL, Entry
from interlock.schemas.errors import LedgerDamaged

_CIPHERS, _PIECES = 256, 4096


class Opener:
    """Opens the entries of one reading. `secret(task)` looks up a task's secret, `content(task, name)` what is stored under a name; both
    none where there is none."""

    def __init__(self, secret: Callable[[str], bytes | None], content: Callable[[str, bytes], bytes | None]) -> None:
        self._secret, self._content = secret, content
        self._ciphers: dict[str, Cipher | None] = {}
        self._pieces: dict[bytes, bytes] = {}

    def all(self, entries: Iterable[Entry]) -> list[Entry]:
        return [self.open(entry) for entry in entries]

    def open(self, entry: Entry) -> Entry:
        """The entry with its content. Raises `LedgerDamaged`."""
        _, seal, sealed = entry.data.partition(SEAL)
        if not seal:
            return entry
        if not sealed:
            return _opened(entry, b"", ERASED)
        try:
            cipher = self._cipher(entry.task)
            if cipher is None:
                return _opened(entry, b"", ERASED)
            content = cipher.open(sealed)
            if not content.startswith(_WITH_NAMES):
                return _opened(entry, content)
            return self._with_kept(entry, cipher, content)
        except (Unopened, ValueError, ArithmeticError, KeyError, IndexError, TypeError) as problem:
            what = "its content does not open: it was changed, or the key of its task was"
            raise LedgerDamaged(seq=entry.seq, problem=what) from problem

    def _with_kept(self, entry: Entry, cipher: Cipher, content: bytes) -> Entry:
        said = decode(content)
        gone = ""
        for field, name in said.pop(NAMES).items():
            try:
                said[field] = Fragment(put_together(bytes.fromhex(name), lambda piece: self._piece(entry.task, cipher, piece)))
            except _Missing:
                gone = PRUNED
        return _opened(entry, encode(said), gone)

    def _piece(self, task: str, cipher: Cipher, name: bytes) -> bytes:
        piece = self._pieces.get(name)
        if piece is None:
            data = self._content(task, name)
            if data is None:
                raise _Missing
            piece = self._pieces[name] = cipher.open_kept(name, data)
            if len(self._pieces) > _PIECES:
                del self._pieces[next(iter(self._pieces))]
        return piece

    def _cipher(self, task: str) -> Cipher | None:
        if task not in self._ciphers:
            secret = self._secret(task)
            if secret is None:
                raise Unopened
            self._ciphers[task] = Cipher(secret) if secret != NO_SECRET else None
            if len(self._ciphers) > _CIPHERS:
                del self._ciphers[next(iter(self._ciphers))]
        return self._ciphers[task]


def _opened(entry: Entry, content: bytes, gone: str = "") -> Entry:
    return Entry(entry.seq, entry.epoch, entry.at, entry.task, entry.kind, entry.data, entry.hash, content, gone)


class _Missing(Exception):
    """Nothing is stored under this name."""


_WITH_NAMES = encode({NAMES: 0})[:-2]
"""How content with names begins: keys are sorted, and this one is before every field's."""
