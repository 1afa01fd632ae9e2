"""Times on the wire: RFC 3339, UTC, microseconds."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(at: int) -> str:
    """`2026-01-31T12:00:00.000000Z` for microseconds since the epoch."""
    seconds, micros = divmod(at, 1_000_000)
    return f"{_to_the_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
