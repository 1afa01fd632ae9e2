"""Scratch folders that outlive no crash for long.

Whoever has one holds a lock on it, which the kernel takes back when the process ends, however it ends. A folder that nobody holds is
abandoned: the next who makes a worktree removes it, and so do the warden who sees a process end, and `down`. Only folders of the same
user are touched.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

PREFIX = "interlock-worktree-"

_LOG = logging.getLogger(__name__)


class Scratch:
    """A folder of one's own in the temp dir, until `remove`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def make(cls) -> Self:
        """A new folder."""
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            # Between its making and its lock another may have taken it for abandoned.
            with suppress(FileNotFoundError):
                if (handle := _locked(path)) is not None:
                    return cls(path, handle)

    def remove(self) -> None:
        try:
            _remove(self.path)
        finally:
            os.close(self._handle)


def remove_abandoned() -> None:
    """Remove the scratch folders of processes that have ended."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            with _abandoned(path) as abandoned:
                if abandoned:
                    _remove(path)
        except FileNotFoundError:
            continue  # somebody else removed it
        except OSError:
            _LOG.warning("the scratch folder %s is left of a process that has ended, and cannot be removed", path, exc_info=True)


@contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody holds the folder; as long as one looks, nobody else takes it."""
    if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.geteuid():
        yield False
        return
    handle = _locked(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _locked(path: Path) -> int | None:
    """A handle that holds the folder; none where another holds it. Raises `FileNotFoundError` where it is gone."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except BlockingIOError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _remove(folder: Path) -> None:
    """Remove it all, though what ran in there may have taken away the permissions that this needs."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            below = Path(parent, name)
            if not below.is_symlink():
                below.chmod(0o700)
    shutil.rmtree(folder)
