"""Ending processes for sure: nothing here returns before the process it was told to end is dead.

A process is held by a pidfd from the moment that it is looked at, so that a number which the kernel gave away again never hits an
innocent one.
"""

import asyncio
import os
import re
import signal
from pathlib import Path

import psutil


async def readable(handle: int) -> None:
    """Return once the file descriptor has something to read: bytes, their end, or, of a pidfd, the death of its process."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(handle, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(handle)


async def ended(pid: int) -> None:
    """Return once the process is dead."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await readable(handle)
    finally:
        os.close(handle)


async def kill(pid: int) -> None:
    """SIGKILL; return once it is dead: of the first process of a namespace, once everything in the namespace is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        await readable(handle)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


async def kill_marked(outer: int, name: str, value: str) -> None:
    """Kill `outer`, all that descends from it and all with `name=value` in its environment, until a look finds none alive."""
    while found := [pid for pid in {outer, *_descendants(outer), *_carrying(name, value)} if _alive(pid)]:
        await asyncio.gather(*map(kill, found))
        for pid in found:
            if pid != outer:
                bury(pid)


def bury(pid: int) -> None:
    """Reap an orphan that fell to this process because it is a child subreaper; one that did not is somebody else's to reap."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def leads_a_namespace(pid: int) -> bool:
    """Whether this is process 1 of a process namespace below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
    numbers = found[1].split() if found else []
    return len(numbers) > 1 and numbers[-1] == "1"


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _carrying(name: str, value: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def threads_of_user() -> int:
    """How many threads this process's user runs: what the kernel holds against a limit on processes."""
    threads = 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                threads += process.num_threads()
        except psutil.Error:
            continue
    return threads
