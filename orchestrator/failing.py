"""Failing replicas: those in which one dispatch after the other fails while their pool answers others.

What is broken in one process (a connection, a device, a memory) fails fast, and so gets more work than those that do theirs. Such a
replica is replaced. Where all of a pool fail, the fault is in their code, in what they are sent or in the world, and another process would
be no better: so each replacement but the first takes an answer of the pool since the last one. Whoever fails also comes last among those
that have as little to do.
"""

from interlock.orchestrator.channel import Channel
from interlock.schemas.errors import InterlockError, ToolFailed

FAILURES_AT_MOST = 10
"""In a row, in one replica."""

_OF_THE_PROCESS = (InterlockError.code, ToolFailed.code)
"""What an agent's code or a tool raised; limits, models and people have nothing to do with the process."""


class Failing:
    """Counts of what fails, by replica."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}
        self._answering: dict[str, bool] = {}  # by agent: has anybody answered since the last replacement

    def answered(self, replica: Channel) -> None:
        self._in_a_row.pop(replica.name, None)
        self._answering[replica.pool] = True

    def failed(self, replica: Channel, cause: str) -> bool:
        """Whether the replica is to be replaced."""
        if cause not in _OF_THE_PROCESS:
            return False
        self._in_a_row[replica.name] = failures = self._in_a_row.get(replica.name, 0) + 1
        if failures < FAILURES_AT_MOST or not self._answering.get(replica.pool, True):
            return False
        self._answering[replica.pool] = False
        return True

    def forget(self, replica: Channel) -> None:
        """Its process has ended."""
        self._in_a_row.pop(replica.name, None)
