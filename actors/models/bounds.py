"""What an operator declares so that a call's input is bounded closer than by its bytes, or at all where it is not text.

A file named by INTERLOCK_BOUNDS says per model (`"*"` is any other): `tokenizer`, a Hugging Face `tokenizer.json` beside it, whose count of
a request's text takes the place of its bytes; `count`, a path of the endpoint that counts a whole request, such as vLLM's `/tokenize`;
`parts`, the most tokens that a content part of a type costs, such as `{"image_url": 1445}`: without it such a part is refused.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from interlock.actors.models.declared import Declared, above_zero

_KNOWN = frozenset({"tokenizer", "count", "parts"})
_MEMORY = 4096
"""So many texts' counts are remembered: a conversation's earlier messages come again with every call."""


class Encoder(Protocol):
    """A tokenizer."""

    def count(self, text: str) -> int:
        """How many tokens the text is."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is declared of one model."""

    encoder: Encoder | None = None
    count: str = ""
    parts: dict[str, int] = field(default_factory=dict)

    def text(self, request: dict[str, Any]) -> int:
        """The most tokens that the texts of a request are, without what a template adds to them."""
        if self.encoder is None:
            raise ValueError("there is no tokenizer to count with")
        rest = {name: value for name, value in request.items() if name != "messages"}
        spaced = max(self.encoder.count(dumps(rest, ensure_ascii=False, indent=indent)) for indent in (None, 4))  # templates differ
        return spaced + sum(self._one(text) for text in _texts(request.get("messages", [])))

    def _one(self, text: str) -> int:
        """Some templates write what is said as JSON, and then every line break is more than a space."""
        assert self.encoder is not None
        return max(self.encoder.count(one) for one in (text, dumps(text), dumps(text, ensure_ascii=False)))


BYTES = Bounds()
"""What holds for a model of which nothing is declared."""


class Declarations:
    """What is declared of all models, as `read_bounds` gives it."""

    def __init__(self, models: dict[str, Bounds] | None = None) -> None:
        self._models = models or {}

    def of(self, model: str) -> Bounds:
        return self._models.get(model) or self._models.get("*") or BYTES


def read_bounds(path: str) -> Declarations:
    """The bounds in the file that INTERLOCK_BOUNDS names; none for an empty path, `BadDeclaration` for a file that is wrong, or for a
    tokenizer where the package `tokenizers` is missing."""
    remedy = 'Write {"MODEL": {"tokenizer": "tokenizer.json", "count": "/tokenize", "parts": {"image_url": 1445}}}, any of the three.'
    file = Declared("INTERLOCK_BOUNDS", path, remedy)

    def bounds(model: str, declared: Any) -> Bounds:
        if not isinstance(declared, dict) or not declared or not set(declared) <= _KNOWN:
            raise file.bad(f"model {model!r} has not `tokenizer`, `count`, `parts` or several of them")
        parts, count, tokenizer = declared.get("parts", {}), declared.get("count", ""), declared.get("tokenizer", "")
        if not _are_parts(parts):
            raise file.bad(f"'parts' of model {model!r} does not say for each type a whole number of tokens above zero")
        if not isinstance(count, str) or (count and not count.startswith("/")):
            raise file.bad(f"'count' of model {model!r} is {count!r}, which is no path at its endpoint such as /tokenize")
        if not isinstance(tokenizer, str):
            raise file.bad(f"'tokenizer' of model {model!r} is {tokenizer!r}, which names no file")
        return Bounds(_encoder(file, model, tokenizer) if tokenizer else None, count, parts)

    return Declarations(file.read(bounds))


def _are_parts(parts: object) -> TypeGuard[dict[str, int]]:
    return isinstance(parts, dict) and all(above_zero(most) for most in parts.values())


def _encoder(file: Declared, model: str, name: str) -> Encoder:
    if find_spec("tokenizers") is None:
        raise file.bad(
            f"model {model!r} has a tokenizer, and the package `tokenizers` that reads it is not installed (pip install tokenizers)"
        )
    path = Path(file.path).parent / name
    try:
        return _Tokenizer(path)
    except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
        raise file.bad(f"the tokenizer of model {model!r} cannot be read from {path} ({error})") from None


class _Tokenizer:
    """A `tokenizer.json`; words that look like its special tokens count as text, which is never fewer."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer  # only where one is declared

        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def count(self, text: str) -> int:
        data = text.encode(errors="surrogatepass")
        name = hashlib.blake2b(data, digest_size=16).digest()
        if name not in self._seen:
            clean = data.decode(errors="replace")  # a lone surrogate is no text to a tokenizer
            self._seen[name] = len(self._tokenizer.encode(clean, add_special_tokens=False).ids)
            if len(self._seen) > _MEMORY:
                self._seen.popitem(last=False)
        self._seen.move_to_end(name)
        return self._seen[name]


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, keys not: those are the template's to say or leave out."""
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
        case None | bool():
            pass
        case _:
            yield str(value)
