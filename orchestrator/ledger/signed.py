"""Reading checkpoints back, for whoever audits: which heads of a ledger were signed, by the key that the auditor trusts."""

import time
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from interlock.orchestrator.ledger.checkpoints import HISTORY_FILE, PUBLIC_FILE
from interlock.orchestrator.ledger.notes import BadNote, Checkpoint, PublicKey, history
from interlock.schemas.errors import CheckpointDamaged, NoCheckpoints

ANSWER_SECONDS = 30.0
_TRIES, _PAUSE = 5, 0.05


class History(NamedTuple):
    """What was found at one place, as text. `shared`: other ledgers' checkpoints may lie there too, and are none of ours."""

    place: str
    text: str
    shared: bool


class Signed(NamedTuple):
    """The heads that count, the note of the newest, and the first note that does not."""

    heads: list[Checkpoint]
    newest: str
    bad: CheckpointDamaged | None

    @property
    def many(self) -> int:
        """How many checkpoints, each counted once wherever it lies."""
        return len({one.size for one in self.heads})

    @property
    def size(self) -> int:
        """How many entries were signed."""
        return max((one.size for one in self.heads), default=0)


def histories(folder: Path, places: Sequence[str]) -> list[History]:
    """What lies beside the ledger, if anything does, and at these places. Raises `NoCheckpoints` where one of them cannot be read.

    Read them before the ledger: then it has at least the entries that were signed, also beside a bus that goes on.
    """
    beside = folder / HISTORY_FILE
    own = [History(str(beside), _read(str(beside)), shared=False)] if beside.exists() else []
    return own + [History(place, _read(place), shared=True) for place in places]


def public_key(folder: Path, given: str | None) -> PublicKey | None:
    """The key that was given, else the one beside the ledger; none where there is neither. Raises `NoCheckpoints`."""
    path = folder / PUBLIC_FILE
    if given is None and not path.exists():
        return None
    try:
        return PublicKey.parse(path.read_text() if given is None else given)
    except (OSError, ValueError) as problem:
        raise NoCheckpoints(place=str(path) if given is None else "--key", problem=str(problem)) from problem


def signed(found: Sequence[History], key: PublicKey | None) -> Signed:
    """All heads in these histories that the key has signed. Raises `NoCheckpoints` where there are histories and no key."""
    heads: list[Checkpoint] = []
    bad: CheckpointDamaged | None = None
    newest, most = "", -1
    for one in found:
        if key is None:
            raise NoCheckpoints(place=one.place, problem="the public key is not beside them")
        vouched = 0
        for noted in history(one.text):
            if one.shared and noted.note.partition("\n")[0] != key.name:
                continue
            try:
                head = key.checkpoint(noted.note)
            except BadNote as problem:
                bad = bad or CheckpointDamaged(place=one.place, line=noted.line, seq=vouched + 1, problem=str(problem))
                continue
            heads.append(head)
            vouched = max(vouched, head.size)
            if head.size > most:
                newest, most = noted.note, head.size
    return Signed(heads, newest, bad)


def notes(found: Sequence[History], key: PublicKey | None) -> list[str]:
    """Each note about this ledger once, those that do not count among them."""
    name = key.name if key is not None else ""
    noted = ((one, noted.note) for one in found for noted in history(one.text))
    return list(dict.fromkeys(note for one, note in noted if not one.shared or note.partition("\n")[0] == name))


def _read(place: str) -> str:
    try:
        if place.startswith(("http://", "https://")):
            with urllib.request.urlopen(place, timeout=ANSWER_SECONDS) as answer:
                return _whole(answer.read())
        raw = Path(place).read_bytes()
        for _ in range(_TRIES):  # the bus may be writing the last note right now
            if not raw or raw.endswith(b"\n\n"):
                break
            time.sleep(_PAUSE)
            raw = Path(place).read_bytes()
    except (OSError, ValueError, HTTPException) as problem:
        raise NoCheckpoints(place=place, problem=str(problem) or repr(problem)) from problem
    return raw.decode(errors="replace")


def _whole(raw: bytes) -> str:
    """What a URL answers may be one note alone, without the empty line that ends it in a history."""
    text = raw.decode(errors="replace")
    return text if text.endswith("\n\n") or not text else f"{text}\n"
