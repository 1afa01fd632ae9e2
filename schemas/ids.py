"""Names of things. Random ids for what people make, derived ids for what must be the same after a crash.

A random id sorts by time of making: 48 bits of milliseconds, 80 bits of chance, in Crockford's base 32.
"""

import hashlib
import re
import secrets
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def _base32(number: int, pairs: int) -> str:
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(10 * pairs - 10, -1, -10)])


def fresh(prefix: str) -> str:
    """A new id such as `tsk_01jd…`: `prefix`, an underscore and 26 characters that sort by time."""
    return f"{prefix}_{_base32((time.time_ns() // 1_000_000 << 80) | secrets.randbits(80), 13)}"


OWN = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
"""What a client may call something of its own; a fresh id has such a name too."""


def is_id(prefix: str, text: object) -> bool:
    """Whether that is an id with this prefix, fresh or a client's own."""
    return isinstance(text, str) and text.startswith(f"{prefix}_") and OWN.fullmatch(text, len(prefix) + 1) is not None


DEFAULT_TENANT = "default"
"""On whose account a task runs that names nobody."""

_TENANT = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._@-]{0,62}[0-9A-Za-z])?")


def is_tenant(text: object) -> bool:
    """Whether that can be a tenant's name: letters, digits and `.`, `_`, `@`, `-` between them, 64 at the most."""
    return isinstance(text, str) and _TENANT.fullmatch(text) is not None


def derived(prefix: str, *parts: str | int) -> str:
    """The same id for the same parts, in every process and after every crash: 128 bits of SHA-256 in hex."""
    return f"{prefix}_{hashlib.sha256(_joined(parts)).hexdigest()[:32]}"


def _joined(parts: tuple[str | int, ...]) -> bytes:
    return "\x1f".join(map(str, parts)).encode()


@lru_cache(maxsize=4096)
def trace_of(task: str) -> str:
    """The W3C trace id of a task: one trace per task, derivable by every actor without asking."""
    return hashlib.sha256(task.encode()).hexdigest()[:32]


def span_of(*parts: str | int) -> str:
    """The W3C span id of something that has a name (a task, an attempt, an effect), derivable like `trace_of`."""
    name = str(parts[0]).encode() if len(parts) == 1 else _joined(parts)
    return hashlib.sha256(name).hexdigest()[:16]


def traceparent(task: str, *parts: str | int) -> str:
    """The W3C `traceparent` under which work for a task hangs: below its workflow, or below the span named by `parts`."""
    return f"00-{trace_of(task)}-{span_of(*parts)}-01" if parts else _workflow_of(task)


@lru_cache(maxsize=4096)
def _workflow_of(task: str) -> str:
    return f"00-{trace_of(task)}-{span_of(task)}-01"
