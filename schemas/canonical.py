"""Bytes of JSON: one fast encoding for what travels, one canonical (RFC 8785) for digests of tool arguments."""

import hashlib
import json
from decimal import Decimal
from typing import Any

import orjson
import rfc8785

_OPTIONS = orjson.OPT_SORT_KEYS

Fragment = orjson.Fragment


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def encode(value: Any) -> bytes:
    """JSON bytes with sorted keys; dataclasses become objects, `Decimal` a string."""
    return orjson.dumps(value, default=_default, option=_OPTIONS)


def decode(data: bytes | str) -> Any:
    """The JSON value in `data`; raises `ValueError` where it is none."""
    return orjson.loads(data)


def digest(value: Any) -> str:
    """Hex SHA-256 of the RFC 8785 form: equal for JSON values that are equal, whoever encoded them."""
    try:
        canonical = rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        # RFC 8785 knows doubles only. Ids of 64 bits are common in tool arguments and must neither fail nor fall together.
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(canonical).hexdigest()
