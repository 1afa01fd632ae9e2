"""Checks a bundle that `interlock audit export` wrote, offline, with nothing but Python's standard library and `cryptography`.

    python -I BUNDLE [KEY]                      the copy in the bundle checks the bundle itself
    python -I verify_bundle.py BUNDLE [KEY]     this file, from wherever you trust it to come, checks a bundle

KEY (NAME+ID+KEY) is the public key that you were given by other means; without it the one in the bundle counts, which proves only that
the bundle fits itself. Entries are chained by SHA-256; each checkpoint is a C2SP signed note over the root of the RFC 9162 Merkle tree
whose leaves are the chain hashes. Exit codes: 0 intact, 1 not intact (the first bad entry is named), 2 no bundle.
"""

import hashlib
import json
import struct
import sys
import zipfile
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = hashlib.sha256(b"interlock ledger 1").digest()
HEADER = struct.Struct(">QQqII")


class Bad(Exception):
    """The first thing that is not as it was."""


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def link(previous: bytes, entry: dict[str, Any]) -> bytes:
    """The chain hash that this entry must have."""
    task, kind = entry["task"].encode(), entry["kind"].encode()
    header = HEADER.pack(entry["seq"], entry["epoch"], entry["at"], len(task), len(kind))
    return sha(previous, header, task, kind, b64decode(entry["data"], validate=True))


def grow(peaks: list[tuple[int, bytes]], leaf: bytes) -> None:
    """Add a leaf to the roots of the complete subtrees, the largest first, each with its level."""
    peaks.append((0, leaf))
    while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
        (level, right), (_, left) = peaks.pop(), peaks.pop()
        peaks.append((level + 1, sha(b"\x01", left, right)))


def root(peaks: list[tuple[int, bytes]]) -> bytes:
    found = b""
    for _, peak in reversed(peaks):
        found = sha(b"\x01", peak, found) if found else peak
    return found


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """Name, id and raw key."""
    name, id, encoded = text.strip().split("+", 2)
    raw = b64decode(encoded, validate=True)
    if len(raw) != 33 or raw[0] != 1 or sha(name.encode(), b"\n", raw)[:4].hex() != id:
        raise Bad("the public key is none, or its id does not fit it")
    return name, bytes.fromhex(id), raw[1:]


def read_note(note: str, key: tuple[str, bytes, bytes]) -> tuple[int, bytes]:
    """Size and root of a checkpoint that the key has signed."""
    name, id, raw = key
    text, _, signatures = note.rpartition("\n\n")
    signed = False
    for line in signatures.split("\n"):
        by, _, encoded = line.removeprefix("— ").partition(" ")
        signature = b64decode(encoded, validate=True)
        if line.startswith("— ") and by == name and signature[:4] == id:
            Ed25519PublicKey.from_public_bytes(raw).verify(signature[4:], f"{text}\n".encode())
            signed = True
    origin, size, head = text.split("\n")[:3]
    if not signed or origin != name:
        raise Bad(f"it is not signed by {name}")
    return int(size), b64decode(head, validate=True)


def read_checkpoints(notes: list[str], key: tuple[str, bytes, bytes]) -> dict[int, set[bytes]]:
    heads: dict[int, set[bytes]] = {}
    for number, note in enumerate(notes, 1):
        try:
            size, head = read_note(note, key)
        except (Bad, ValueError, InvalidSignature) as problem:
            why = str(problem) or "its signature does not fit its text"
            raise Bad(f"checkpoint {number} is forged or unsigned, after entry {max(heads, default=0)}: {why}") from None
        heads.setdefault(size, set()).add(head)
    return heads


def check(entries: Iterator[dict[str, Any]], heads: dict[int, set[bytes]]) -> int:
    """How many entries there are, each with its place in the chain, and every signed head met."""
    previous, number, good, peaks = GENESIS, 0, 0, list[tuple[int, bytes]]()
    for number, entry in enumerate(entries, 1):
        if entry["seq"] != number:
            raise Bad(f"entry {number}: it is missing, entry {entry['seq']} stands in its place")
        previous = link(previous, entry)
        if previous.hex() != entry["hash"]:
            raise Bad(f"entry {number}: its hash does not fit its content and the entry before it")
        grow(peaks, sha(b"\x00", previous))
        if number in heads and heads[number] != {root(peaks)}:
            raise Bad(f"entry {good + 1}: it or one up to entry {number} is not the one that was signed: its history was rewritten")
        good = number if number in heads else good
    if max(heads, default=0) > number:
        raise Bad(f"entry {number + 1}: it is missing: {max(heads)} entries were signed")
    return number


def main(words: list[str]) -> int:
    inside = zipfile.is_zipfile(words[0])
    path, given = (words if inside else words[1:] or [""])[0], words[1:] if inside else words[2:]
    try:
        with zipfile.ZipFile(path) as bundle:
            text = given[0] if given else bundle.read("key.pub").decode()
            notes: list[str] = json.loads(bundle.read("checkpoints.json"))
            with bundle.open("entries.jsonl") as file:
                heads = read_checkpoints(notes, read_key(text)) if notes else {}
                number = check((json.loads(line) for line in file), heads)
    except (OSError, zipfile.BadZipFile) as problem:
        print(f"no bundle: {problem}", file=sys.stderr)
        return 2
    except (Bad, ValueError, KeyError, TypeError, AttributeError, struct.error) as problem:
        print(f"NOT INTACT: {problem}", file=sys.stderr)
        return 1
    signed = f"the first {max(heads)} signed (checkpoints: {len(notes)}) by {text.strip()}" if heads else "none of them signed"
    print(f"intact: {number} entries, {signed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
