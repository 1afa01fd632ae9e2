"""Sizes in memory as people write them."""

import re

from interlock.schemas.errors import BadDeclaration

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMG]i?)?B", re.IGNORECASE)
LEAST = 64 * 10**6
"""A Python process with a bus in it is not smaller."""


def bytes_in(what: str, size: str | int) -> int:
    """The bytes that `memory=` of `what` names; 0 where it names none. Raises `BadDeclaration`."""
    count = size_of(size)
    if count is None or not (count == 0 or count >= LEAST):
        problem = f"memory={size!r} is no size, or less than a process needs ({LEAST // 10**6} MB)"
        raise BadDeclaration(what=what, problem=problem, remedy='Write as in memory="500MB" or memory="2GB".')
    return count


def size_of(size: str | int) -> int | None:
    """The bytes that somebody wrote; none where that is no size."""
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size.strip())
    return round(float(found[1]) * _UNITS[f"{found[2] or ''}B".upper()]) if found else None


def told_size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


PAGE_AT_MOST = 10_000
"""How many rows one answer of a bus has at most: who wants more asks for the next page."""
