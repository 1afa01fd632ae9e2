"""When a ledger's head is signed and where the checkpoints go: a thread of its own, so that no commit ever waits for it.

It hears of every commit, signs every thousand entries or ten seconds after the first new one, and once more at the end. The newest
checkpoint vouches for all that came before, so a place that could not be written gets the newest one later, and nothing piles up.
"""

import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit

from interlock.orchestrator.ledger.checkpoints import Signer, Unsignable, append, last_note
from interlock.orchestrator.ledger.reader import Reads

EVERY_ENTRIES = 1000
EVERY_SECONDS = 10.0
RETRY_SECONDS = 10.0
ANSWER_SECONDS = 5.0

_LOG = logging.getLogger("interlock.checkpoints")


class Destination(Protocol):
    """Where checkpoints are copied to. `name` is for people and holds no secret."""

    name: str

    def put(self, note: str) -> None:
        """Keep one more note there. Raises `OSError`."""


class FileDestination:
    """A history in a file, best on another disk or one that is only appended to."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path

    def put(self, note: str) -> None:
        if last_note(self._path) != note:
            append(self._path, note)


class UrlDestination:
    """Whoever answers a POST of the note, as plain text, with success."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name, self._url = f"{parts.scheme}://{parts.hostname or ''}", url

    def put(self, note: str) -> None:
        request = urllib.request.Request(self._url, note.encode(), {"Content-Type": "text/plain; charset=utf-8"}, method="POST")
        try:
            urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
        except HTTPError as refusal:
            refusal.close()
            raise OSError(f"it answered {refusal.code} {refusal.reason}") from None
        except HTTPException as problem:
            raise OSError(f"it answers no HTTP ({problem!r})") from problem


def destination_of(where: str) -> Destination:
    """A path, or an http(s) URL."""
    return UrlDestination(where) if where.startswith(("http://", "https://")) else FileDestination(Path(where))


class Copies:
    """One place, and how far it has got."""

    def __init__(self, place: Destination) -> None:
        self.place = place
        self.problem = ""
        self.again = 0.0
        self._has = ""

    def bring(self, note: str, now: float) -> None:
        if not note or note == self._has or now < self.again:
            return
        try:
            self.place.put(note)
        except (OSError, ValueError) as problem:
            self.problem, self.again = _told(problem), now + RETRY_SECONDS
            _LOG.warning("the checkpoint could not be written to %s: %s", self.place.name, self.problem)
        else:
            self._has, self.problem = note, ""

    @property
    def due(self) -> float:
        return self.again if self.problem else float("inf")


class Keeper:
    """Of one ledger in one epoch. `begin`, `committed` and `end` return at once; `turn` is the thread's one step."""

    def __init__(self, signer: Signer, places: Sequence[Destination] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._signer = signer
        self._copies = [Copies(place) for place in places]
        self._now = now
        self._queue: SimpleQueue[list[bytes] | threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._seq = 0
        self._opened = False
        self._since: float | None = None
        self._seals: list[threading.Event] = []
        self._again = 0.0
        self._problem = ""

    @classmethod
    def beside(cls, folder: Path, reads: Callable[[], Reads], place: str = "") -> "Keeper":
        """For the ledger in that folder; `place` gets a copy of every checkpoint."""
        return cls(Signer(folder, reads), [destination_of(place)] if place else [])

    def begin(self, seq: int) -> None:
        """The ledger was opened and ends at entry `seq`."""
        self._seq = seq
        self._thread.start()

    def committed(self, hashes: list[bytes]) -> None:
        """These entries, given by their chain hashes, follow and are durable."""
        self._queue.put(hashes)

    def end(self) -> None:
        """Nothing more follows. What is durable and not yet signed is signed."""
        self._queue.put(None)

    def seal(self, seconds: float) -> None:
        """Sign what is durable now, without waiting for more; return once that is done or has failed, after `seconds` at the latest."""
        sealed = threading.Event()
        self._queue.put(sealed)
        sealed.wait(seconds)

    def join(self) -> None:
        """Return once all is signed that will be."""
        if self._thread.ident is not None:
            self._thread.join()

    def status(self) -> dict[str, Any]:
        """Up to which entry it is signed, how many came after, by which key, and per place what keeps a checkpoint from being written."""
        problems = {one.place.name: one.problem for one in self._copies if one.problem}
        if self._problem:
            problems[self._signer.place] = self._problem
        signed = self._signer.signed
        return {"entries": signed, "unsigned": max(0, self._seq - signed), "key": str(self._signer.public or ""), "problems": problems}

    def _work(self) -> None:
        wait, ended = self.turn([], self._now()), False
        while not ended:
            new, ended = self._gather(wait)
            wait = self.turn(new, self._now(), last=ended or bool(self._seals))
            while self._seals:
                self._seals.pop().set()

    def _gather(self, wait: float | None) -> tuple[list[bytes], bool]:
        """All that has come, or nothing after `wait` seconds; and whether that was the end."""
        new: list[bytes] = []
        try:
            while (got := self._queue.get(timeout=wait)) is not None:
                if isinstance(got, threading.Event):
                    self._seals.append(got)
                else:
                    new += got
                wait = 0
        except Empty:
            return new, False
        return new, True

    def turn(self, new: list[bytes], now: float, last: bool = False) -> float | None:
        """Take up what is new and do what is due; the seconds until something is due again."""
        self._seq += len(new)
        if not self._opened:
            self._open(now)
        else:
            self._signer.extend(new)
        if self._opened:
            self._sign(now, last)
            for one in self._copies:
                one.bring(self._signer.note, now)
        due = min([self._due(), *(one.due for one in self._copies)])
        return None if due == float("inf") else max(0.0, due - now)

    def _open(self, now: float) -> None:
        if now < self._again:
            return
        try:
            self._signer.open(self._seq)
        except Unsignable as contradiction:
            self._failed(f"nothing more is signed, for the ledger is not the one that was signed before: {contradiction}", float("inf"))
        except Exception as problem:  # noqa: BLE001 - any store's; the ledger goes on without checkpoints, and `status` says why
            self._failed(_told(problem), now + RETRY_SECONDS)
        else:
            self._opened, self._problem = True, ""

    def _sign(self, now: float, last: bool) -> None:
        unsigned = self._signer.size - self._signer.signed
        if unsigned and self._since is None:
            self._since = now
        if not unsigned or not (last or unsigned >= EVERY_ENTRIES or now >= self._due()) or now < self._again:
            return
        try:
            self._signer.sign()
        except OSError as problem:
            self._failed(_told(problem), now + RETRY_SECONDS)
        else:
            self._since, self._problem = None, ""

    def _due(self) -> float:
        if self._problem:
            return self._again
        return float("inf") if self._since is None else self._since + EVERY_SECONDS

    def _failed(self, problem: str, again: float) -> None:
        if problem != self._problem:
            _LOG.warning("no checkpoint can be written: %s", problem)
        self._problem, self._again = problem, again


def _told(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__
