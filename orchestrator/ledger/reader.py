"""Reading a ledger: the questions that one can ask, and the reader of a SQLite file that answers them beside a running bus.

A reader never writes, never blocks the writer and needs no bus: the ledger of a bus that died reads the same. It sees durable entries only,
with what is under their seals, but where somebody asks for them as they are stored.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import quote

from interlock.orchestrator.ledger.audit import audit
from interlock.orchestrator.ledger.cipher import KeyRow
from interlock.orchestrator.ledger.notes import Checkpoint
from interlock.orchestrator.ledger.opener import Opener
from interlock.orchestrator.ledger.projections import AppRow, ContractRow, DeedRow, InboxRow, Row, TaskRow
from interlock.orchestrator.ledger.shown import ItemShown, TaskShown, items_shown, tasks_shown
from interlock.schemas.entries import Entry, Fact, TaskParked
from interlock.schemas.errors import LedgerDamaged, NoLedger, StoreAway
from interlock.schemas.record import State
from interlock.tools import sqlite

APPLICATION_ID = 0x494C434B
"""`ILCK` in the file's header: this is a ledger."""

SCHEMA_VERSION = 6

T = TypeVar("T")

_PAGE = 1000
_NONE: Mapping[str, bytes] = {}

_MANY = 100
_THESE = f"({','.join('?' * _MANY)})"
_ENTRIES = f"SELECT * FROM entries WHERE seq IN {_THESE}"
_ENTRIES_OF = f"SELECT * FROM entries WHERE task IN {_THESE} ORDER BY seq"

_PARKED = (
    "SELECT entries.* FROM tasks JOIN entries ON entries.seq = (SELECT max(seq) FROM entries AS own WHERE own.task = tasks.task) "
    "WHERE tasks.outcome = '' AND entries.kind = ? ORDER BY entries.seq"
)


_PRUNABLE = (
    "SELECT contents.task, count(*), sum(length(contents.data)) FROM contents JOIN tasks ON tasks.task = contents.task "
    "WHERE tasks.outcome <> '' AND tasks.ended_at < ? GROUP BY contents.task ORDER BY min(tasks.seq)"
)


class Prunable(NamedTuple):
    """A task that has ended, and how much is kept by name of its model calls."""

    task: str
    pieces: int
    bytes: int


class Reads(Protocol):
    """What can be asked of a ledger; the same answers from memory and from a file."""

    def tasks(self, limit: int = 100, state: State | None = None) -> list[TaskShown]:
        """The latest tasks first, those in `state` or all."""

    def task(self, id: str) -> TaskShown | None: ...

    def live_tasks(self) -> list[str]:
        """Tasks without an outcome, in order of acceptance."""

    def parked(self) -> list[Entry]:
        """The last entries of those live tasks that are parked, oldest first: each is a `task.parked`."""

    def inbox(self, open_only: bool = True, limit: int = 100, *, kind: str = "", task: str = "", after: int = 0) -> list[ItemShown]:
        """What waits for a human, or all that ever did, whoever waits longest first; of one kind or task, or asked after entry `after`."""

    def inbox_count(self, open_only: bool = True, *, kind: str = "", after: int = 0) -> int:
        """How many there are of them."""

    def item(self, id: str) -> ItemShown | None: ...

    def entries(self, task: str, after: int = 0) -> list[Entry]:
        """A task's entries with a number above `after`, in order (`""`: those of the bus itself)."""

    def entries_of(self, tasks: Sequence[str]) -> dict[str, list[Entry]]:
        """The entries of many tasks at once, each task's in order; those without any are left out."""

    def all_entries(self, after: int = 0, limit: int = _PAGE) -> list[Entry]:
        """The next entries after number `after`."""

    def contracts(self) -> list[ContractRow]:
        """All registered versions, by name, in order of registration."""

    def apps(self) -> list[AppRow]:
        """All deployed versions, the latest deployment last."""

    def deed(self, name: str) -> DeedRow | None:
        """What is known of a deed: that it is done, or that nobody knows."""

    def prunable(self, before: int) -> list[Prunable]:
        """What is kept by name of tasks that ended before then (microseconds), in order of acceptance."""

    def hashes(self, after: int = 0, limit: int = _PAGE) -> list[bytes]:
        """The chain hashes of the next entries after number `after`."""

    def verify(self, signed: Sequence[Checkpoint] = (), refold: bool = True) -> int:
        """How many entries there are, all intact and those that were `signed`, and with `refold` equal to the rows beside them; else
        `LedgerDamaged`."""

    def close(self) -> None: ...


class SqlReader:
    """`Reads` by queries that both databases understand; the two differ in how they run one and in how they keep a moment."""

    unreadable: ClassVar[type[Exception]]
    """What a query raises where the stored bytes make no sense."""

    def tasks(self, limit: int = 100, state: State | None = None) -> list[TaskShown]:
        if state is None:
            found = self.all("SELECT * FROM tasks ORDER BY seq DESC LIMIT ?", limit)
        else:
            found = self.all("SELECT * FROM tasks WHERE state = ? ORDER BY seq DESC LIMIT ?", state.value, limit)
        return tasks_shown([TaskRow(*row) for row in found], self._facts)

    def task(self, id: str) -> TaskShown | None:
        found = self.all("SELECT * FROM tasks WHERE task = ?", id)
        return tasks_shown([TaskRow(*found[0])], self._facts)[0] if found else None

    def live_tasks(self) -> list[str]:
        return [task for (task,) in self.all("SELECT task FROM tasks WHERE outcome = '' ORDER BY seq")]

    def parked(self) -> list[Entry]:
        return [Entry(*row) for row in self.all(_PARKED, TaskParked.KIND)]

    def inbox(self, open_only: bool = True, limit: int = 100, *, kind: str = "", task: str = "", after: int = 0) -> list[ItemShown]:
        which, values = _of_inbox(open_only, kind, task, after)
        found = self.all(f"SELECT * FROM inbox WHERE {which} ORDER BY seq LIMIT ?", *values, limit)
        return items_shown([InboxRow(*row) for row in found], self._facts)

    def inbox_count(self, open_only: bool = True, *, kind: str = "", after: int = 0) -> int:
        which, values = _of_inbox(open_only, kind, "", after)
        return int(self.all(f"SELECT count(*) FROM inbox WHERE {which}", *values)[0][0])

    def item(self, id: str) -> ItemShown | None:
        found = self.all("SELECT * FROM inbox WHERE item = ?", id)
        return items_shown([InboxRow(*found[0])], self._facts)[0] if found else None

    def entries(self, task: str, after: int = 0) -> list[Entry]:
        found = self.all("SELECT * FROM entries WHERE task = ? AND seq > ? ORDER BY seq", task, after)
        return self.opener().all(Entry(*row) for row in found)

    def entries_of(self, tasks: Sequence[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for some in _by_many(tasks):
            opener = self.opener(dict(self.keys(f"task IN {_THESE}", *some)))
            for row in self.all(_ENTRIES_OF, *some):
                entry = opener.open(Entry(*row))
                found.setdefault(entry.task, []).append(entry)
        return found

    def _facts(self, numbers: Sequence[int]) -> dict[int, Fact]:
        found: dict[int, Fact] = {}
        for some in _by_many(numbers):
            stored = [Entry(*row) for row in self.all(_ENTRIES, *some)]
            secrets: dict[str, bytes] = {}
            for tasks in _by_many(list(dict.fromkeys(entry.task for entry in stored))):
                secrets.update(self.keys(f"task IN {_THESE}", *tasks))
            opener = self.opener(secrets)
            found.update((entry.seq, opener.open(entry).open()) for entry in stored)
        return found

    def all_entries(self, after: int = 0, limit: int = _PAGE) -> list[Entry]:
        return self.opener().all(self.stored(after, limit))

    def stored(self, after: int = 0, limit: int = _PAGE) -> list[Entry]:
        """The next entries after number `after` as they are stored; what is sealed in them is not opened."""
        return [Entry(*row) for row in self.all("SELECT * FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)]

    def contracts(self) -> list[ContractRow]:
        return [ContractRow(*row) for row in self.all("SELECT * FROM contracts ORDER BY contract, seq")]

    def apps(self) -> list[AppRow]:
        return [AppRow(*row) for row in self.all("SELECT * FROM apps ORDER BY seq")]

    def deed(self, name: str) -> DeedRow | None:
        found = self.all("SELECT * FROM deeds WHERE deed = ?", name)
        return DeedRow(*found[0]) if found else None

    def hashes(self, after: int = 0, limit: int = _PAGE) -> list[bytes]:
        return [bytes(hash) for (hash,) in self.all("SELECT hash FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)]

    def prunable(self, before: int) -> list[Prunable]:
        """On a connection of its own, as of `verify`."""
        own = self.moment()
        try:
            return [Prunable(task, int(pieces), int(size)) for task, pieces, size in own.all(_PRUNABLE, before)]
        finally:
            own.close()

    def verify(self, signed: Sequence[Checkpoint] = (), refold: bool = True) -> int:
        """On a connection of its own, so that it may run in another thread while this reader goes on answering."""
        own = self.moment()
        try:
            return audit(own.walk(), own.rows if refold else None, signed, own.opener())
        except own.unreadable as problem:
            raise LedgerDamaged(seq=1, problem=f"the keys or contents of it or of those after it cannot be read ({problem})") from problem
        finally:
            own.close()

    def walk(self) -> Iterator[Entry]:
        """All entries from the first on as they are stored, a page at a time, never all in memory. Raises `LedgerDamaged` where one cannot
        be read."""
        after = 0
        try:
            while page := self.stored(after):
                yield from page
                after = page[-1].seq
        except self.unreadable as problem:
            raise LedgerDamaged(seq=after + 1, problem=f"it or one soon after it cannot be read ({problem})") from problem

    def opener(self, secrets: Mapping[str, bytes] = _NONE) -> Opener:
        """What opens entries that are read as they are stored; `secrets` are at hand already."""
        return Opener(lambda task: secrets.get(task) or self._secret(task), self._content)

    def _secret(self, task: str) -> bytes | None:
        found = self.keys("task = ?", task)
        return found[0].secret if found else None

    def keys(self, which: str, *values: Any) -> list[KeyRow]:
        """The secrets of which this is true."""
        return [KeyRow(*row) for row in self.all(f"SELECT task, secret FROM keys WHERE {which}", *values)]

    def _content(self, task: str, name: bytes) -> bytes | None:
        found = self.all("SELECT data FROM contents WHERE task = ? AND name = ?", task, name)
        return bytes(found[0][0]) if found else None

    def rows(self) -> list[Row]:
        """All rows beside the entries. Raises `LedgerDamaged` where they cannot be read."""
        try:
            tasks = [TaskRow(*row) for row in self.all("SELECT * FROM tasks")]
            items = [InboxRow(*row) for row in self.all("SELECT * FROM inbox")]
            deeds = [DeedRow(*row) for row in self.all("SELECT * FROM deeds")]
            return [*tasks, *items, *self.contracts(), *self.apps(), *deeds]
        except self.unreadable as problem:
            raise LedgerDamaged(seq=1, problem=f"what it and those after it come to cannot be read ({problem})") from problem

    def moment(self) -> Self:
        """Another reader, on a connection of its own, to which the ledger stays as it is now, whatever the bus writes meanwhile."""
        raise NotImplementedError

    def all(self, sql: str, *values: Any) -> list[Any]:
        """Every row that the query finds; `?` marks a value."""
        raise NotImplementedError

    def size(self) -> int:
        """How many bytes it takes on the disk."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def _of_inbox(open_only: bool, kind: str, task: str, after: int) -> tuple[str, list[Any]]:
    """The condition on rows of the inbox, and its values."""
    wanted = {"seq > ?": after} | ({"kind = ?": kind} if kind else {}) | ({"task = ?": task} if task else {})
    return " AND ".join(["decision = ''"] * open_only + [*wanted]), [*wanted.values()]


def _by_many(those: Sequence[T]) -> Iterator[list[T | None]]:
    """So many at a time, and none in the places that are left over: one statement for any number."""
    for start in range(0, len(those), _MANY):
        some = those[start : start + _MANY]
        yield [*some, *[None] * (_MANY - len(some))]


class Reader(SqlReader):
    """`Reads` on a ledger file, read only. Raises `NoLedger` where there is none or it is not ours, `StoreAway` where its disk does not
    work now."""

    unreadable = sqlite3.DatabaseError

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._db = open_file(self._path, "ro")

    def moment(self) -> Self:
        own = type(self)(self._path)
        own._db.execute("BEGIN")
        return own

    def all(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as problem:
            if sqlite.may_pass(problem):
                raise StoreAway(path=str(self._path), problem=str(problem)) from problem
            raise

    def size(self) -> int:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        self._db.close()


_RESTORE = (
    "Nothing was done with it. Where it is a bus's own, stop that bus, keep the file aside and put the last good backup in its place with "
    "`interlock ledger restore`; else give the path of a ledger."
)


def open_file(path: Path, mode: str, check: bool = True) -> sqlite3.Connection:
    """A connection to an existing ledger (`mode`: `ro` or `rw`); never makes a file. It may be used from another thread."""
    if not path.is_file():
        raise NoLedger(path=str(path), problem="there is no such file", remedy="`interlock up` creates one; or give the path of another.")
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    with ExitStack() as refused:
        try:
            db = refused.enter_context(closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)))
            db.execute("PRAGMA busy_timeout = 5000")
            ((made_by,),) = db.execute("PRAGMA application_id").fetchall()
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
        except sqlite3.Error as problem:
            raise NoLedger(path=str(path), problem=f"it cannot be read ({problem})", remedy=_RESTORE) from problem
        if made_by != APPLICATION_ID:
            raise NoLedger(path=str(path), problem="the file is something else", remedy="Give the path of a ledger.")
        if check:
            check_layout(version, str(path))
        refused.pop_all()
        return db


def is_current(path: Path) -> bool:
    """Whether the file's layout is the one of this code; one that is newer raises `NoLedger`."""
    with closing(open_file(path, "ro", check=False)) as db:
        ((version,),) = db.execute("PRAGMA user_version").fetchall()
    if version > SCHEMA_VERSION:
        check_layout(version, str(path))
    return bool(version == SCHEMA_VERSION)


def check_layout(version: int, where: str) -> None:
    """Raises `NoLedger` where this code does not know the layout: nobody but `interlock up` changes one."""
    if version == SCHEMA_VERSION:
        return
    differs = f"its layout is version {version} and this Interlock works with version {SCHEMA_VERSION}"
    remedy = (
        "Run `interlock up`, which brings it up to date."
        if version < SCHEMA_VERSION
        else "Run the Interlock that wrote it, or a newer one."
    )
    raise NoLedger(path=where, problem=differs, remedy=remedy)
