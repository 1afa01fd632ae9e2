"""Gathering calls: what many coroutines of one driver want at the same moment goes to the bus as one call.

Whatever is asked for while a call stands goes with the next one, so batches grow by themselves under load and a lone call leaves at once.
Where many submits wait, tenants and task types take turns.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from interlock.backend import Backend, Wire
from interlock.orchestrator.admission import Submission
from interlock.schemas.errors import InterlockError, StoreAway, TryAgain, from_wire
from interlock.schemas.ids import fresh
from interlock.schemas.turns import Turns

WAIT_SECONDS = 20.0
"""How long one waiting call stands; a longer wait is a row of such calls, so that a lost one is noticed."""

PAUSE_SECONDS = 1.0
"""How long a row of waiting calls pauses while the ledger cannot be read."""

SUBMITS_AT_MOST, CALLS_AT_MOST = 128, 4
"""How many submits go in one call, and how many such calls stand at once: a crowd begins to flow before its last task is accepted."""


class Gather:
    """Submits and outcomes of one driver."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._submits: Turns[tuple[Submission, asyncio.Future[None]]] = Turns()
        self._submitting: set[asyncio.Task[None]] = set()
        self._driver = fresh("drv")
        self._awaited: dict[str, asyncio.Future[Wire]] = {}
        self._fresh: list[str] = []
        self._got: list[str] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._first = True
        self._coming = False

    async def submit(self, submission: Submission) -> None:
        """Return once the task is accepted, durably; raises what the bus refuses it with."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submits.put(done, (submission, done), submission.type, submission.tenant)
        if len(self._submitting) < CALLS_AT_MOST and len(self._submits) > len(self._submitting) * SUBMITS_AT_MOST:
            row = asyncio.create_task(self._submit_some())
            self._submitting.add(row)
        await done

    async def _submit_some(self) -> None:
        """Calls for what waits, one after another, while anything does; a crowd goes as several rows of calls side by side."""
        await asyncio.sleep(0)  # whoever submits in this turn of the loop comes along
        while self._submits:
            batch = [self._submits.take() for _ in range(min(SUBMITS_AT_MOST, len(self._submits)))]
            try:
                answers = await self._backend.submit([one for one, _ in batch])
            except Exception as error:  # noqa: BLE001 - it goes to everyone who waits for this call
                _fail([done for _, done in batch], error)
                continue
            for (_, done), wire in zip(batch, answers, strict=True):
                if wire is not None:
                    _fail([done], from_wire(wire))
                elif not done.done():
                    done.set_result(None)
        self._submitting.discard(asyncio.current_task())  # at once: who comes now needs a row of his own

    async def outcome(self, task: str) -> Wire:
        """How a task ended, once it has. Raises `UnknownTask`."""
        end = self._awaited.get(task)
        if end is None:
            end = self._awaited[task] = asyncio.get_running_loop().create_future()
            self._fresh.append(task)
            if not self._coming:
                self._call()
        return await asyncio.shield(end)

    def _call(self) -> None:
        self._coming = True
        call = asyncio.create_task(self._wait())
        self._calls.add(call)

    async def _wait(self) -> None:
        """Calls for all that is awaited, one after another, while anything is; a newer row of calls relieves this one."""
        await asyncio.sleep(0)
        self._coming = False
        try:
            while self._awaited:
                relieved = await self._wait_once() and len(self._calls) > 1
                if relieved:
                    return
        finally:
            # At once, so that no two rows take each other for the one that goes on.
            self._calls.discard(asyncio.current_task())

    async def _wait_once(self) -> bool:
        """One call; true where it brought nothing."""
        named, self._fresh = self._fresh, []
        got, self._got = self._got, []
        first, self._first = self._first, False
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        try:
            ends = await self._backend.outcomes(self._driver, list(self._awaited) if first else named, got, first, WAIT_SECONDS)
        except (TryAgain, StoreAway):  # who waits for an end waits through this too
            self._first = True
            await asyncio.sleep(PAUSE_SECONDS)
            return False
        except Exception as error:  # noqa: BLE001 - it goes to everyone who waits
            awaited, self._awaited, self._fresh, self._first = self._awaited, {}, [], True
            _fail(awaited.values(), error)
            return False
        # Where nothing came, all is named again: of two calls that were made again, to the next orchestrator, the one that stands may be
        # the one that names less.
        self._first = self._first or ends is None or (not ends and loop.time() >= until)
        if ends is None:
            return False
        self._settle(ends)
        return not ends

    def _settle(self, ends: dict[str, Wire]) -> None:
        for task, end in ends.items():
            self._got.append(task)
            waiting = self._awaited.pop(task, None)
            if waiting is None or waiting.done():
                continue
            if end["outcome"]:
                waiting.set_result(end)
            else:
                waiting.set_exception(from_wire(end["error"]))


def _fail(waiting: Iterable["asyncio.Future[Any]"], error: Exception) -> None:
    """Everyone gets an exception of his own: one that is raised in many places gathers all their tracebacks."""
    for one in waiting:
        if not one.done():
            one.set_exception(from_wire(error.to_wire()) if isinstance(error, InterlockError) else error)
