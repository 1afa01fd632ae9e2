"""Content that is kept by name: what model calls said, each piece of it once.

Request and response of a call are taken apart: every message, and whatever else is large, is a piece of its own. A piece is named by
its task's key, so the same piece again is the same row. The messages of a request are a list that begins where the one of an earlier
call of the conversation ended: a call adds what is new to it, however long the conversation is. What is left, with the names of the
pieces, is the piece by whose name an entry knows it.

What was stored is remembered for a while to store less again; forgetting it costs room, never content.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

from interlock.orchestrator.ledger.cipher import NAME_BYTES, Cipher, ContentRow
from interlock.schemas.canonical import Fragment, decode, encode

LARGE_FIELD = 256
"""Fields of a call with more bytes are pieces of their own: the schemas of tools are the same in each call."""

_REMEMBERED = 32_768
_FIRST, _NEXT = b"\0", b"\1"

Path = list[str | int]


class Contents:
    """Takes content apart into rows."""

    def __init__(self) -> None:
        self._stored: dict[bytes, None] = {}
        self._lists: dict[bytes, bytes] = {}  # by what all the names in a list come to, the name of its end

    def take(self, task: str, cipher: Cipher, value: Any) -> tuple[bytes, list[ContentRow]]:
        """The name of `value`, and the rows that have to be stored for it."""
        rows: list[ContentRow] = []

        def keep(content: bytes) -> bytes:
            name, data = cipher.keep(content)
            rows.append(ContentRow(task, name, data))
            _remember(self._stored, name, None)
            return name

        def piece(part: Any) -> bytes:
            content = encode(part)
            name = cipher.name(content)
            return name if name in self._stored else keep(content)

        rest, pieces, lists = _apart(value)
        whole = {
            "rest": rest,
            "pieces": [[path, piece(part).hex()] for path, part in pieces],
            "lists": [[path, self._list([piece(one) for one in parts], keep).hex()] for path, parts in lists],
        }
        return keep(encode(whole)), rows

    def _list(self, names: Sequence[bytes], keep: Callable[[bytes], bytes]) -> bytes:
        """The name of this list's end. It begins with the longest list before it that is remembered."""
        running, sums = sha256(), []
        for name in names:
            running.update(name)
            sums.append(running.digest())
        known = next((n for n in range(len(sums), 0, -1) if sums[n - 1] in self._lists), 0)
        if known and known == len(sums):
            return self._lists[sums[-1]]
        before = _NEXT + self._lists[sums[known - 1]] if known else _FIRST
        end = keep(before + b"".join(names[known:]))
        if sums:
            _remember(self._lists, sums[-1], end)
        return end


def put_together(name: bytes, get: Callable[[bytes], bytes]) -> bytes:
    """The JSON of what `take` was given, by its name; `get` has the pieces."""
    whole = decode(get(name))
    value = whole["rest"]
    for path, piece in whole["pieces"]:
        _put(value, path, Fragment(get(bytes.fromhex(piece))))
    for path, end in whole["lists"]:
        _put(value, path, Fragment(b"[" + b",".join(map(get, _names(bytes.fromhex(end), get))) + b"]"))
    return encode(value)


def _names(end: bytes, get: Callable[[bytes], bytes]) -> list[bytes]:
    parts: list[bytes] = []
    while True:
        link = get(end)
        begin = 1 if link[:1] == _FIRST else 1 + NAME_BYTES
        parts.append(link[begin:])
        if link[:1] == _FIRST:
            break
        end = link[1:begin]
    names = b"".join(reversed(parts))
    return [names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES)]


def _apart(value: Any) -> tuple[Any, list[tuple[Path, Any]], list[tuple[Path, list[Any]]]]:
    """What is left of a request or a response, its pieces and its lists of pieces, each with the path where it was."""
    if not isinstance(value, dict):
        return value, [], []
    rest, pieces, lists = dict(value), list[tuple[Path, Any]](), list[tuple[Path, list[Any]]]()
    if isinstance(value.get("messages"), list):
        lists.append((["messages"], rest.pop("messages")))
    if isinstance(value.get("choices"), list):
        rest["choices"] = [dict(one) if isinstance(one, dict) else one for one in value["choices"]]
        pieces += _messages(rest["choices"])
    for key, part in list(rest.items()):
        if key != "choices" and len(encode(part)) > LARGE_FIELD:
            pieces.append(([key], rest.pop(key)))
    return rest, pieces, lists


def _messages(choices: list[Any]) -> Iterator[tuple[Path, Any]]:
    """The messages of an answer, taken out of it."""
    for n, choice in enumerate(choices):
        if isinstance(choice, dict) and "message" in choice:
            yield ["choices", n, "message"], choice.pop("message")


def _put(value: Any, path: Path, part: Fragment) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = part


def _remember(memory: dict[bytes, Any], key: bytes, value: Any) -> None:
    memory[key] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
