"""Times on the wire: RFC 3339, UTC, microseconds."""

from datetime import UTC, datetime


def rfc3339(at: int) -> str:
    """`2026-01-31T12:00:00.000000Z` for microseconds since the epoch."""
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
