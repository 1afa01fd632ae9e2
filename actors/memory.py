"""Memory: how much a process uses of its own, and how much it may where nobody has said so.

The node is shared. A process that takes all of it takes its neighbours down with it, the orchestrator among them; so each has a bound, and
its warden ends who goes beyond.
"""

import os
from pathlib import Path

import psutil

SHARE = 4
"""A process without a declared bound may use this part of its node's memory: a quarter."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def node_memory() -> int:
    """What this node has, or what its container may use if that is less."""
    total: int = psutil.virtual_memory().total
    for file in _CGROUP_LIMITS:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):
            continue  # no such control group, or `max`
    return total


def share() -> int:
    """The bound of a process that has none of its own."""
    return node_memory() // SHARE


def used_by(pid: int) -> int:
    """Bytes that the process has for itself, without what it shares with others; 0 where it is gone."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE
