"""A task as its driver sees it: its events while it runs, its result, its record."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from interlock.backend import Backend
from interlock.gather import Gather
from interlock.schemas.canonical import decode, encode
from interlock.schemas.entries import Entry, Fact
from interlock.schemas.errors import AlreadyEnded, BadDeclaration, Erased, InterlockError, TaskFailed, UnknownTask
from interlock.schemas.ids import OWN, fresh
from interlock.schemas.message import Message, contract_of
from interlock.schemas.record import Outcome, RunRecord
from interlock.schemas.times import rfc3339
from interlock.schemas.words import clean

Res = TypeVar("Res", bound=Message)

_NOUNS = {"tsk": "task", "msg": "message"}

UNDOS_SECONDS = 2.0
POLL_SECONDS = 20.0
"""How long one waiting call stands; a longer wait is a row of such calls, so that a lost one is noticed."""

ENDS_SECONDS = 60.0
"""How long whoever erases a live task waits for its end once it is stopped."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task. `at` RFC 3339 UTC, `kind` and `fact` as in the ledger."""

    seq: int
    at: str
    kind: str
    fact: Fact

    def __str__(self) -> str:
        return f"{self.at} {self.kind}"


class AsyncTask(Generic[Res]):
    """A submitted task. Awaiting methods may be called from many coroutines at once."""

    def __init__(self, id: str, backend: Backend, gather: Gather, result: type[Res] | None) -> None:
        self.id = id
        self._backend, self._gather, self._class = backend, gather, result

    async def result(self) -> Res:
        """The task's result. Raises `TaskFailed` (with `.outcome`, `.reason` and `.record`) where the outcome is not `success`.

        Of a task that was attached to by its id the result is the JSON value. Raises `Erased` where it has been erased.
        """
        end = await self._gather.outcome(self.id)
        if end["outcome"] != Outcome.SUCCESS:
            record = await self._backend.record(self.id)
            raise TaskFailed(task=self.id, outcome=end["outcome"], reason=end["reason"], record=record, error=end["error"])
        if end["erased"]:
            raise Erased(task=self.id)
        if self._class is None:
            value: Any = decode(end["result"])
            return value  # type: ignore[no-any-return]
        return self._class.model_validate_json(end["result"])

    async def outcome(self) -> Outcome:
        """How the task ended, once it has."""
        return Outcome((await self._gather.outcome(self.id))["outcome"])

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """What happens to the task, from entry `after` on, until it has ended."""
        while True:
            wires, ended = await self._backend.entries(self.id, after, POLL_SECONDS)
            for wire in wires:
                entry = Entry(*wire)
                after = entry.seq
                yield Event(entry.seq, rfc3339(entry.at), entry.kind, entry.open())
            if ended and not wires:
                return

    async def entries(self) -> list[Entry]:
        """What was recorded of the task so far, in order. Raises `UnknownTask`."""
        wires, _ = await self._backend.entries(self.id, 0, POLL_SECONDS)
        return [Entry(*wire) for wire in wires]

    async def record(self) -> RunRecord:
        """What the task did and cost so far."""
        return RunRecord.model_validate(await self._backend.record(self.id))

    async def used(self) -> dict[str, tuple[Any, Any, Any]]:
        """Per meter of a live task: used, reserved, limit (None: without)."""
        return await self._backend.used(self.id)

    async def budget(self) -> dict[str, Any]:
        """What the task used of what it may: `meters` says per meter `used`, `reserved`, `limit` and `left`, money and time as text."""
        return await self._backend.budget(self.id)

    async def change_budget(self, limits: Mapping[str, Any], why: str, *, by: str | None = None) -> None:
        """Raise or lower limits of the live task, as in `{"usd": "1.00"}`; None lifts one. Who and why is recorded; durable on return.

        Raises `AlreadyEnded` or `Fenced` where it may do nothing more anyhow.
        """
        wire = {meter: None if amount is None else str(amount) for meter, amount in limits.items()}
        await self._backend.change_budget(self.id, wire, clean(by or principal()), clean(why))

    async def send(self, message: Message, *, id: str | None = None, by: str | None = None) -> str:
        """Send a message into the running task, for its workflow to receive; durable on return. Returns the message's id.

        The same `id` (lower case, digits, hyphens) again is the same message. Raises `Refused` errors: nothing was sent then.
        """
        name, version = contract_of(type(message))
        return await self._send(name, version, message.encoded(), id, by)

    async def send_json(
        self, contract: str, message: bytes | Mapping[str, Any], *, version: str = "", id: str | None = None, by: str | None = None
    ) -> str:
        """The same for a driver that has no classes; without a `version` it is the one that the workflow declares."""
        data = message if isinstance(message, bytes) else encode(dict(message))
        return await self._send(contract, version, data, id, by)

    async def _send(self, contract: str, version: str, data: bytes, id: str | None, by: str | None) -> str:
        own = own_id("msg", id)
        await self._backend.send(self.id, own, clean(contract), clean(version), data, clean(by or principal()))
        return own

    async def kill(self, why: str, *, by: str | None = None, undo: bool = True) -> dict[str, Any]:
        """Stop the task, everywhere, and return the receipt: what was stopped, with evidence. Takes 60 s at the very most.

        What it registered with `ctx.on_undo` is undone then, but for `undo=False`; the receipt's `undos` say how that stands now. To
        stop the undoing kill the task that does it, which they name.
        """
        receipt = await self._backend.kill(self.id, by or principal(), why, undo)
        if receipt["undos"]:
            with suppress(TimeoutError, InterlockError):  # the receipt says how it stood then
                receipt["undos"] = await asyncio.wait_for(self.undos(), UNDOS_SECONDS)
        return receipt

    async def undos(self) -> list[dict[str, Any]]:
        """What the workflow registered to be undone and how that stands: `tool`, `of`, `state`, and `undoing`, the task that does it."""
        return await self._backend.undos(self.id)

    async def erase(self, why: str, *, by: str | None = None) -> dict[str, Any]:
        """Destroy what the task said, for good; a live one is killed first, and the receipt of that is `receipt`, else null. While what it
        did is being undone that is still needed: raises `TaskLive`.

        That it happened, how it ended and what it cost stays on record. `plain` counts entries from before Interlock sealed what tasks say:
        they cannot be erased. `traces`: a reader of the ledger keeps what was destroyed in its files until it is done. Backups and
        bundles that were made before are not reached.
        """
        receipt = None
        with suppress(AlreadyEnded, UnknownTask):  # the latter: there may be a refusal under this id
            if (await self._backend.record(self.id))["outcome"] is None:
                receipt = await self.kill(why, by=by)
                # Nobody waits for the orchestrator with a receipt: the next one may find the task alive before it hears of the order.
                with suppress(TimeoutError, UnknownTask):
                    async with asyncio.timeout(ENDS_SECONDS):
                        await self.outcome()
                        for undoing in {undo["undoing"] for undo in receipt["undos"]}:
                            await self._gather.outcome(undoing)
        return {**await self._backend.erase(self.id, clean(by or principal()), clean(why)), "receipt": receipt}


def own_id(prefix: str, id: str | None) -> str:
    """The prefix and the client's own id, or a fresh one."""
    if id is None:
        return fresh(prefix)
    own = id.removeprefix(f"{prefix}_")
    if not OWN.fullmatch(own):
        raise BadDeclaration(
            what=f"{_NOUNS[prefix]} id {id!r}",
            problem="it is not lower-case letters, digits and hyphens, 64 at the most",
            remedy="Use an id such as order-7294.",
        )
    return f"{prefix}_{own}"


@cache
def principal() -> str:
    """Who acts, where nobody says: the user of this process."""
    return getpass.getuser()
