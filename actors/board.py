"""The board: a file in which a process notes what it works for, readable when the process itself answers nobody.

One memory-mapped file per incarnation, `<run dir>/<incarnation>.board`: a header (who the process is) and fixed slots (the
tasks it holds, since when). To enter or leave costs about a microsecond and no system call, and the note survives any death
of its writer. A slot left keeps its task until it is used again, the longest left first: so one can see what ran lately.
"""

import asyncio
import hashlib
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from interlock.actors.process import Identity, own_identity, ticks_now

SLOTS = 512
SUFFIX, ENDED = ".board", ".ended"
KEEP_ENDED_SECONDS = 86_400.0
"""An order is carried out within a minute, but its supervisor may be away for long in the middle of it."""
UNKNOWN = -1
"""The slot of whoever found none free: the board then says that it may hold any task."""

_MAGIC = b"ILBOARD1"
_HEADER = struct.Struct("<8sQQQQQ")
_OVERFLOW, _BOUND, _USED = 3, 4, 5
"""Which word of the header."""
_SLOT = 64
_WORDS = _SLOT // 8
_TASK_AT = 16
_TASK_BYTES = _SLOT - _TASK_AT
_SINCE_AND_TASK = struct.Struct(f"<Q{_TASK_BYTES}s")
_TAKEN_SINCE_AND_TASK = struct.Struct(f"<QQ{_TASK_BYTES}s")
_SINCE_AT = 8
_SIZE = _SLOT * (1 + SLOTS)


def _key(task: str) -> bytes:
    """The task as a slot names it, without the zeros up to the slot's end."""
    name = task.encode()
    if len(name) > _TASK_BYTES:
        name = b"#" + hashlib.sha256(name).hexdigest().encode()[: _TASK_BYTES - 1]
    return name


class Board:
    """The writer's side; one per process, used from one thread."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        self._free = deque(range(1, SLOTS + 1))

    @classmethod
    def create(cls, directory: Path, incarnation: str, may_use: int = 0) -> Self:
        """This process's board; it `may_use` so many bytes (0: any). `FileExistsError` where the incarnation has one: its name
        is never used again."""
        draft = directory / f".{incarnation}.{os.getpid()}"
        with open(draft, "xb+") as file:
            file.truncate(_SIZE)
            memory = mmap.mmap(file.fileno(), _SIZE)
        _HEADER.pack_into(memory, 0, _MAGIC, *own_identity(), 0, may_use, 0)
        try:
            # A reader sees the whole header or no board.
            os.link(draft, board_path(directory, incarnation))
            ended_path(directory, incarnation).unlink(missing_ok=True)
        finally:
            draft.unlink()
        return cls(memory)

    def bound(self, memory: int) -> None:
        """This process may use so many bytes from now on."""
        self._words[_BOUND] = memory

    def enter(self, task: str) -> int:
        """Note that this process works for `task` from now on; the slot is for `leave`."""
        if not self._free:
            self._words[_OVERFLOW] += 1
            return UNKNOWN
        slot = self._free.popleft()
        _SINCE_AND_TASK.pack_into(self._memory, slot * _SLOT + _SINCE_AT, ticks_now(), _key(task))
        # Last, so that a reader never sees a slot taken before it says by whom.
        self._words[slot * _WORDS] = 1
        return slot

    def leave(self, slot: int) -> None:
        """It no longer does."""
        if slot == UNKNOWN:
            self._words[_OVERFLOW] -= 1
            return
        self._words[slot * _WORDS] = 0
        self._free.append(slot)


class MemoryBoard:
    """The twin without a file, where all are one process. Every incarnation has its own."""

    def __init__(self) -> None:
        self._slots: dict[int, tuple[str, float]] = {}
        self._next = 0

    def enter(self, task: str) -> int:
        self._next += 1
        self._slots[self._next] = task, asyncio.get_running_loop().time()
        return self._next

    def leave(self, slot: int) -> None:
        self._slots.pop(slot, None)

    def holds(self, *tasks: str) -> bool:
        asked = frozenset(tasks)
        return any(held in asked for held, _ in self._slots.values())

    def at_work(self, tasks: Iterable[str]) -> dict[str, float]:
        """Those of the tasks that are on it, with the seconds since."""
        now, asked = asyncio.get_running_loop().time(), set(tasks)
        return {task: now - since for task, since in self._slots.values() if task in asked}


class View(NamedTuple):
    """A board as it was at one moment. `memory` are the bytes that its owner may use, `used` those for which it was ended, if it was."""

    owner: Identity
    overflow: int
    slots: bytes
    memory: int = 0
    used: int = 0

    def holds(self, *tasks: str) -> bool:
        """Whether the process works for one of the tasks, or may do so."""
        return self.overflow > 0 or any(taken for taken, _ in self._of(*tasks))

    def since(self, *tasks: str) -> int | None:
        """The start (in clock ticks since boot) of the earliest remembered work for one of the tasks, ended or not."""
        return min((since for _, since in self._of(*tasks)), default=None)

    def at_work(self, tasks: Iterable[str]) -> dict[str, float]:
        """Those of the tasks that it works for, with the seconds since."""
        now, ticks = ticks_now(), os.sysconf("SC_CLK_TCK")
        held = {task: [since for taken, since in self._of(task) if taken] for task in tasks}
        return {task: (now - min(since)) / ticks for task, since in held.items() if since}

    def _of(self, *tasks: str) -> list[tuple[int, int]]:
        """Whether each slot of these tasks is taken, and since when."""
        if len(tasks) != 1:
            keys = {_key(task).ljust(_TASK_BYTES, b"\0") for task in tasks}
            return [(taken, since) for taken, since, key in _TAKEN_SINCE_AND_TASK.iter_unpack(self.slots) if key in keys]
        key, found, at = _key(tasks[0]).ljust(_TASK_BYTES, b"\0"), [], -1
        while (at := self.slots.find(key, at + 1)) >= 0:
            if at % _SLOT == _TASK_AT:
                found.append(struct.unpack_from("<QQ", self.slots, at - _TASK_AT))
        return found


def board_path(directory: Path, incarnation: str) -> Path:
    return directory / f"{incarnation}{SUFFIX}"


def ended_path(directory: Path, incarnation: str) -> Path:
    return directory / f"{incarnation}{ENDED}"


def retire(directory: Path, incarnation: str) -> None:
    """Put what a board says at the end in its place: its process was seen to have ended, with all that it left behind. Such files of long
    ago are removed: nobody asks for those any more."""
    ended, board = ended_path(directory, incarnation), board_path(directory, incarnation)
    ended.touch(mode=0o600)
    with suppress(FileNotFoundError):  # another warden, the one before on its way out, may do the same
        ended.write_bytes(_remains(board.read_bytes()))
        board.unlink()
    before = ended.stat().st_mtime - KEEP_ENDED_SECONDS
    for old in directory.glob(f"*{ENDED}"):
        with suppress(FileNotFoundError):
            if old.stat().st_mtime < before:
                old.unlink()


def _remains(data: bytes) -> bytes:
    """A board without the slots that nobody was working in."""
    slots = (data[at : at + _SLOT] for at in range(_SLOT, len(data), _SLOT))
    return data[:_SLOT] + b"".join(slot for slot in slots if any(slot[:8]))


def read(path: Path) -> View | None:
    """The board in the file, whether its writer lives, hangs or is dead; None where there is none, or nothing that was kept of it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if path.suffix == ENDED and not data:
        return None
    magic, pid, start, overflow, memory, used = _HEADER.unpack_from(data)
    if magic != _MAGIC or (len(data) != _SIZE and path.suffix != ENDED):
        raise ValueError(f"{path} is not a board")
    return View(Identity(pid, start), overflow, data[_SLOT:], memory, used)


def bound_in(path: Path) -> int:
    """The bytes that the board's owner may use; 0 where there is no bound, or no such board."""
    try:
        with path.open("rb") as file:
            return int(_HEADER.unpack(file.read(_HEADER.size))[_BOUND])
    except (FileNotFoundError, struct.error):
        return 0


def note_used(path: Path, used: int) -> None:
    """Note on somebody else's board that it is ended because it uses so many bytes."""
    with path.open("r+b") as file:
        file.seek(8 * _USED)
        file.write(used.to_bytes(8, "little"))
