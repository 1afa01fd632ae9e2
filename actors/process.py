"""Processes as Linux knows them: who lives, who descends from whom, who carries a mark.

A process is named by pid and start time (`Identity`), never by pid alone: a pid is used again. A signal goes to the process
that was looked at or to nobody. A zombie counts as gone: it runs nothing and only waits for its parent.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

INCARNATION_MARK = "INTERLOCK_INCARNATION"
TASK_MARK = "INTERLOCK_TASK"

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
_STOPPED = frozenset("Tt")


class Identity(NamedTuple):
    """A process for ever: `start` in clock ticks since the machine's boot."""

    pid: int
    start: int


class Seen(NamedTuple):
    """A process as one look at it showed."""

    identity: Identity
    parent: int
    state: str
    gone: bool

    @property
    def stopped(self) -> bool:
        return self.gone or self.state in _STOPPED


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children, so that they stay in its tree."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def mark_self(incarnation: str) -> None:
    """Make this process a root that a warden can end whole. Before any user code, and before any child."""
    os.environ[INCARNATION_MARK] = incarnation
    become_subreaper()


def ticks_now() -> int:
    """Now, on the scale of `Identity.start`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def look(pid: int) -> Seen | None:
    """The process that has this pid now; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; the fields begin after its last one. See proc(5).
    fields = text[text.rindex(b")") + 2 :].split()
    state, threads = fields[0].decode(), int(fields[17])
    # The first thread of a living process may be a zombie while others run.
    gone = state in "ZXx" and threads <= 1
    return Seen(Identity(pid, int(fields[19])), int(fields[1]), state, gone)


def own_identity() -> Identity:
    seen = look(os.getpid())
    assert seen is not None
    return seen.identity


def seen_again(identity: Identity) -> Seen | None:
    """The same process now; None once it has ended, whoever has its pid."""
    seen = look(identity.pid)
    return seen if seen is not None and seen.identity == identity and not seen.gone else None


def alive(identity: Identity) -> bool:
    return seen_again(identity) is not None


def pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def descendants(root: int) -> list[Seen]:
    """All living processes below `root`, parents before children."""
    children: dict[int, list[Seen]] = {}
    for pid in pids():
        seen = look(pid)
        if seen is not None:
            children.setdefault(seen.parent, []).append(seen)
    found: list[Seen] = []
    parents = [root]
    while parents:
        below = [seen for parent in parents for seen in children.get(parent, ())]
        found += [seen for seen in below if not seen.gone]
        parents = [seen.identity.pid for seen in below]
    return found


def ancestry(pid: int) -> set[int]:
    """`pid` and all processes above it."""
    above: set[int] = set()
    while pid not in above:
        seen = look(pid)
        if seen is None:
            break
        above.add(pid)
        pid = seen.parent
    return above


def environment(pid: int) -> Mapping[str, str] | None:
    """The environment that the process was started with; None where it is gone or not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read()
    except OSError:
        return None
    pairs = (item.partition(b"=") for item in text.split(b"\0") if item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def marked(name: str, *values: str) -> list[Identity]:
    """All living processes that were started with one of these values as `name` in their environment."""
    found, wanted = [], frozenset(values)
    for pid in pids():
        before = look(pid)
        if before is None or before.gone:
            continue
        if (environment(pid) or {}).get(name) in wanted and alive(before.identity):
            found.append(before.identity)
    return found


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process. False where it is gone; `PermissionError` where it is not ours."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle is opened first: from here on the pid cannot pass to another process unnoticed.
        if not alive(identity):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True
