"""A sandbox for code that a model wrote.

Guarantees: the command runs in the best jail that really works here (each is tried once, with a real program); without one
nothing runs unless the caller accepts the risk. When `run` returns or raises, the whole process tree is dead, whatever it
did to survive (without a jail: all of it that can be found). Output is bounded, its end always kept.
"""

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from interlock.schemas.errors import NoSandbox, ToolRefused
from interlock.schemas.ids import fresh
from interlock.tools import processes
from interlock.tools.jails import JAILS, NO_JAIL, PATH, Confinement, Jail

_DRAINING = 2.0
_RUN = "INTERLOCK_SANDBOX"


class Completed(NamedTuple):
    """How a command ended. `returncode` is 128 plus the signal's number where a signal ended it; `seconds` are the wall's."""

    returncode: int
    output: str
    cut: bool
    timed_out: bool
    seconds: float


class Sandbox:
    """A jail, and the care that nothing leaves it or outlives it."""

    def __init__(self, jail: Jail) -> None:
        self._jail = jail

    @property
    def name(self) -> str:
        return self._jail.name

    def describe(self) -> str:
        """One sentence: what this sandbox promises and what it does not."""
        return f"{self.name}: {self._jail.promise}."

    async def run(
        self,
        argv: Sequence[str],
        cwd: Path,
        *,
        seconds: float,
        mark: Mapping[str, str],
        memory_mb: int = 1024,
        output_bytes: int = 65_536,
        readable: Sequence[Path] = (),
    ) -> Completed:
        """Run `argv` in `cwd`, which it may write; `readable` paths are shown read-only, `mark` joins its environment.

        Cancelled, it first ends the tree and then raises. Raises `ToolRefused` where a path would show the home directory.
        """
        what = Confinement(tuple(argv), _harmless(cwd), _outermost(readable), _environment(mark), seconds, memory_mb)
        stop = asyncio.Event()
        work = asyncio.ensure_future(self._attend(what, output_bytes, stop))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await _patiently(work)
            raise

    def problem(self) -> str:
        """Empty where a real program runs in this jail, else why it does not."""
        with tempfile.TemporaryDirectory(prefix="interlock-probe-") as folder, open(os.devnull, "wb") as report:
            what = Confinement(("true",), Path(folder).resolve(), (), _environment({}), seconds=10, memory_mb=256)
            try:
                probe = subprocess.run(
                    self._jail.command(what),
                    stdin=report,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=dict(what.environment),
                    timeout=10,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
        return "" if probe.returncode == 0 else probe.stdout.decode(errors="replace").strip() or f"exit status {probe.returncode}"

    async def _attend(self, what: Confinement, output_bytes: int, stop: asyncio.Event) -> Completed:
        loop = asyncio.get_running_loop()
        began = loop.time()
        output = _Output(output_bytes)
        async with self._started(what, output) as process:
            timed_out = not await _any_within(what.seconds, processes.ended(process.pid), stop.wait())
        returncode = process.returncode or 0
        return Completed(
            returncode=returncode if returncode >= 0 else 128 - returncode,
            output=output.text(),
            cut=output.cut,
            timed_out=timed_out,
            seconds=loop.time() - began,
        )

    @asynccontextmanager
    async def _started(self, what: Confinement, output: "_Output") -> AsyncIterator[asyncio.subprocess.Process]:
        """The command while it runs; on the way out its whole tree is ended and its output read to the end."""
        report, writer = os.pipe()
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._jail.command(what),
                    stdin=writer,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env=dict(what.environment),
                    start_new_session=True,
                )
            finally:
                os.close(writer)
            drained = asyncio.ensure_future(output.drain(process.stdout))
            try:
                yield process
            finally:
                await self._end(process.pid, report, what.environment)
                await asyncio.wait({drained}, timeout=_DRAINING)
                drained.cancel()
                await process.wait()
        finally:
            os.close(report)

    async def _end(self, outer: int, report: int, environment: Mapping[str, str]) -> None:
        if not self._jail.confines:
            await processes.kill_marked(outer, _RUN, environment[_RUN])
            return
        first = await _reported(report)
        await processes.kill(outer)
        if processes.leads_a_namespace(first):
            await processes.kill(first)
            processes.bury(first)


@lru_cache(maxsize=2)
def choose(unsafe: bool = False) -> Sandbox:
    """The best sandbox that works here. Raises `NoSandbox` where none does, unless `unsafe` accepts to run without."""
    problems = []
    for jail in JAILS:
        sandbox = Sandbox(jail)
        problem = sandbox.problem()
        if not problem:
            return sandbox
        problems.append(f"{jail.name}: {problem}")
    if unsafe:
        return Sandbox(NO_JAIL)
    raise NoSandbox(problem="; ".join(problems))


class _Output:
    """The first quarter and the last three of what was said: a cause stands early, a verdict late."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 4
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._lost = 0

    @property
    def cut(self) -> bool:
        return self._lost > 0

    async def drain(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while chunk := await stream.read(65_536):
            room = self._head_limit - len(self._head)
            self._head += chunk[:room]
            self._tail += chunk[room:]
            surplus = max(0, len(self._tail) - self._tail_limit)
            del self._tail[:surplus]
            self._lost += surplus

    def text(self) -> str:
        gap = f"\n[... {self._lost} bytes left out ...]\n" if self._lost else ""
        return self._head.decode(errors="replace") + gap + self._tail.decode(errors="replace")


def _environment(mark: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/tmp", **mark, _RUN: fresh("run")}


def _harmless(path: Path) -> Path:
    found = path.resolve()
    if Path.home().resolve().is_relative_to(found):
        raise ToolRefused(
            tool="sandbox",
            problem=f"{path} is or contains the home directory, which code that a model wrote never sees",
            remedy="Name a directory that holds only what the code needs.",
        )
    return found


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Each once, outer ones first, without what every jail shows."""
    return tuple(path for path in sorted(set(map(_harmless, paths))) if not path.is_relative_to("/usr"))


async def _reported(report: int) -> int:
    """The number of the jail's first process; 0 where the jail ended before it was closed.

    It comes within milliseconds and from the jail's own code alone, so waiting for it is short; killing before it had come could
    leave a half-built jail behind.
    """
    said = b""
    while not (found := re.search(rb"(\d+)[\s,}]", said)):
        await processes.readable(report)
        more = os.read(report, 4096)
        if not more:
            return 0
        said += more
    return int(found[1])


async def _any_within(seconds: float, *awaitables: Awaitable[Any]) -> bool:
    """Whether one of these is done within the time; the others are cancelled."""
    tasks = {asyncio.ensure_future(each) for each in awaitables}
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return bool(done)


async def _patiently(work: asyncio.Future[Completed]) -> None:
    """Wait until it is done, whatever else is cancelled meanwhile."""
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            continue
    if not work.cancelled():
        work.exception()
