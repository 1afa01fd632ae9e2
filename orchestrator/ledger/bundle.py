"""What an audit hands to others: a bundle with all entries that anybody can check, and the proof of a single entry.

A bundle is a zip: `entries.jsonl` (the entries as stored), `checkpoints.json` (the notes), `key.pub`, and the verifier as `__main__.py`, so
that Python runs the bundle itself. The entries are sealed; `content.jsonl` says what is under their seals, or that it was erased, and the
verifier does not read it. Nothing is judged here: a damaged ledger goes in as it is, and the verifier says so.
"""

import json
import os
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from interlock.orchestrator.ledger import verify_bundle
from interlock.orchestrator.ledger.merkle import consistency, continues, includes, inclusion, leaf, root
from interlock.orchestrator.ledger.notes import PublicKey
from interlock.orchestrator.ledger.opener import Opener
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.signed import Signed
from interlock.schemas.canonical import Fragment, encode
from interlock.schemas.entries import SEAL, Entry
from interlock.schemas.errors import LedgerDamaged, NoProof


def export(
    entries: Callable[[], Iterable[Entry]], notes: Sequence[str], key: PublicKey | None, path: Path, opener: Opener | None = None
) -> int:
    """Write a bundle and return how many entries it has; `opener` for one with their content. It appears under its name complete; only its
    owner may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    number = 0
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("__main__.py", Path(verify_bundle.__file__).read_text())
            bundle.writestr("key.pub", f"{key or ''}\n")
            bundle.writestr("checkpoints.json", json.dumps(notes, ensure_ascii=False, indent=0))
            with bundle.open("entries.jsonl", "w", force_zip64=True) as lines:
                for number, entry in enumerate(entries(), 1):  # noqa: B007 - counted
                    lines.write(json.dumps(as_stored(entry)).encode() + b"\n")
            if opener is not None:
                with bundle.open("content.jsonl", "w", force_zip64=True) as lines:
                    for entry in islice(entries(), number):
                        if SEAL in entry.data:
                            lines.write(encode(content_of(entry, opener)) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return number


def as_stored(entry: Entry) -> dict[str, Any]:
    """An entry's fields as they stand in the ledger, in JSON."""
    return {
        "seq": entry.seq,
        "epoch": entry.epoch,
        "at": entry.at,
        "task": entry.task,
        "kind": entry.kind,
        "data": b64encode(entry.data).decode(),
        "hash": entry.hash.hex(),
    }


def content_of(entry: Entry, opener: Opener) -> dict[str, Any]:
    """What is under an entry's seal: `content` by field, and `gone` in plain words where something or all of it is there no more."""
    said: dict[str, Any] = {"seq": entry.seq, "task": entry.task, "kind": entry.kind}
    try:
        opened = opener.open(entry)
    except LedgerDamaged:
        return {**said, "gone": "does not open"}
    if opened.content:
        said["content"] = Fragment(opened.content)
    return {**said, "gone": opened.gone} if opened.gone else said


def prove(reads: Reads, signed: Signed, seq: int, since: int | None) -> dict[str, Any]:
    """The proof that entry `seq` is what the newest checkpoint vouches for, and that this checkpoint continues that of `since` entries.

    Raises `NoProof` where it was not signed, or the ledger is not what was signed.
    """
    newest = max(signed.heads, key=lambda one: one.size, default=None)
    if newest is None or not 0 < seq <= newest.size:
        raise NoProof(seq=seq, problem=f"{newest.size if newest else 0} entries are signed")
    if since is not None and not 0 < since <= newest.size:
        raise NoProof(seq=seq, problem=f"the newest checkpoint is of {newest.size} entries and continues none of {since}")
    leaves = _leaves(reads, newest.size)
    found = reads.all_entries(after=seq - 1, limit=1)
    if len(leaves) != newest.size or not found or found[0].seq != seq:
        raise NoProof(seq=seq, problem="the ledger has fewer entries than were signed")
    path = inclusion(leaves, seq - 1)
    if not includes(newest.root, newest.size, seq - 1, leaf(found[0].hash), path):
        raise NoProof(seq=seq, problem="the ledger is not the one that was signed")
    proof: dict[str, Any] = {"entry": as_stored(found[0]), "checkpoint": signed.newest, "size": newest.size, "index": seq - 1}
    proof["inclusion"] = [b64encode(one).decode() for one in path]
    if since is not None:
        first, steps = root(leaves[:since]), consistency(leaves, since)
        assert continues(first, since, newest.root, newest.size, steps)
        proof["since"] = {
            "size": since,
            "root": b64encode(first).decode(),
            "consistency": [b64encode(one).decode() for one in steps],
        }
    return proof


def _leaves(reads: Reads, size: int) -> list[bytes]:
    leaves: list[bytes] = []
    while len(leaves) < size and (page := reads.hashes(len(leaves), min(5000, size - len(leaves)))):
        leaves += [leaf(one) for one in page]
    return leaves
