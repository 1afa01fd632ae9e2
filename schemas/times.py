"""Times on the wire: RFC 3339, UTC, microseconds."""

from datetime import UTC, datetime
from functools import lru_cache

LONGEST_SECONDS = 100 * 365 * 86_400
"""The longest time that anything waits or may take: a hundred years, so that every moment has a date."""


def rfc3339(at: int) -> str:
    """`2026-01-31T12:00:00.000000Z` for microseconds since the epoch."""
    seconds, micros = divmod(at, 1_000_000)
    return f"{_to_the_second(seconds)}.{micros:06d}Z"


def after(now: int, seconds: float) -> int:
    """The moment `seconds` after `now`, in microseconds; what lies beyond the longest time comes when that has passed."""
    return now + int(max(0.0, min(seconds, LONGEST_SECONDS)) * 1e6)


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
