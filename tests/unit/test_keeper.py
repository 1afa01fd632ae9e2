"""When checkpoints are signed, where they go, and what a restart makes of those that are there; without a thread but where it says so."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from interlock.clock import SystemClock
from interlock.orchestrator.ledger.chain import GENESIS, link
from interlock.orchestrator.ledger.checkpoints import HISTORY_FILE, KEY_FILE, PUBLIC_FILE, TREE_FILE, Signer
from interlock.orchestrator.ledger.keeper import EVERY_ENTRIES, Keeper, destination_of
from interlock.orchestrator.ledger.memory import Disk
from interlock.orchestrator.ledger.merkle import leaf, root
from interlock.orchestrator.ledger.notes import PublicKey, SigningKey, history
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.signed import histories, public_key, signed
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.schemas.entries import Entry, EpochStarted
from interlock.schemas.errors import LedgerDamaged


class Growing:
    """A ledger in memory that grows by as many entries as a test wants."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.reads = 0

    def reader(self) -> Disk:
        self.reads += 1
        return self.disk

    def more(self, many: int) -> list[bytes]:
        new = []
        for _ in range(many):
            previous = self.disk.log[-1].hash if self.disk.log else GENESIS
            seq = len(self.disk.log) + 1
            self.disk.log.append(Entry(seq, 1, seq, "", "epoch.started", b"{}", link(previous, seq, 1, seq, "", "epoch.started", b"{}")))
            new.append(self.disk.log[-1].hash)
        return new

    def root(self, size: int) -> bytes:
        return root(leaf(entry.hash) for entry in self.disk.log[:size])


class Box:
    """A place that can be out of order."""

    name = "box"

    def __init__(self) -> None:
        self.broken = False
        self.notes: list[str] = []

    def put(self, note: str) -> None:
        if self.broken:
            raise OSError("no route")
        self.notes.append(note)


@pytest.fixture
def ledger() -> Growing:
    return Growing()


def keeper_of(folder: Path, ledger: Growing, *places: Box) -> Keeper:
    return Keeper(Signer(folder, ledger.reader), places)


def sizes(folder: Path) -> list[int]:
    return [head.size for head in signed(histories(folder, []), public_key(folder, None)).heads]


def test_every_thousand_entries_and_ten_seconds_after_the_first_new_one(tmp_path: Path, ledger: Growing) -> None:
    keeper = keeper_of(tmp_path, ledger)
    assert keeper.turn([], 0) is None
    assert keeper.turn(ledger.more(3), 100) == 10
    assert keeper.turn(ledger.more(1), 104) == 6
    assert sizes(tmp_path) == []
    assert keeper.turn([], 110) is None
    assert sizes(tmp_path) == [4]
    assert keeper.turn(ledger.more(EVERY_ENTRIES - 1), 200) == 10
    assert keeper.turn(ledger.more(1), 201) is None
    assert sizes(tmp_path) == [4, 1004]
    keeper.turn(ledger.more(1), 202, last=True)
    assert sizes(tmp_path) == [4, 1004, 1005]
    assert keeper.turn([], 203, last=True) is None
    found = signed(histories(tmp_path, []), public_key(tmp_path, None))
    assert found.bad is None
    assert [head.root for head in found.heads] == [ledger.root(size) for size in (4, 1004, 1005)]
    assert keeper.status() == {"entries": 1005, "unsigned": 0, "key": (tmp_path / PUBLIC_FILE).read_text().strip(), "problems": {}}


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, ledger: Growing) -> None:
    keeper_of(tmp_path, ledger).turn([], 0)
    made = (tmp_path / KEY_FILE).read_text()
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert str(SigningKey.parse(made).public) == (tmp_path / PUBLIC_FILE).read_text().strip()
    keeper_of(tmp_path, ledger).turn([], 0)
    assert (tmp_path / KEY_FILE).read_text() == made
    assert sorted(path.name for path in tmp_path.iterdir()) == [KEY_FILE, PUBLIC_FILE]


@pytest.mark.parametrize("lost", [[], [TREE_FILE]])
def test_a_restart_goes_on_from_the_last_checkpoint(
    tmp_path: Path, ledger: Growing, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(tmp_path, ledger)
    keeper.turn(ledger.more(1500), 0)
    keeper.turn([], 0, last=True)
    ledger.more(7)
    for name in lost:
        (tmp_path / name).unlink()
    asked: list[int] = []
    hashes = ledger.disk.hashes

    def counted(after: int = 0, limit: int = 1000) -> list[bytes]:
        asked.append(limit)
        return hashes(after, limit)

    monkeypatch.setattr(ledger.disk, "hashes", counted)
    again = keeper_of(tmp_path, ledger)
    again._seq = 1507
    assert again.turn([], 0) == 10
    assert sum(asked) == (1507 if lost else 8)
    again.turn(ledger.more(1), 10)
    assert sizes(tmp_path) == [1500, 1508]
    assert signed(histories(tmp_path, []), public_key(tmp_path, None)).heads[-1].root == ledger.root(1508)


def test_a_tree_that_ran_ahead_of_the_history_is_no_contradiction(tmp_path: Path, ledger: Growing) -> None:
    keeper = keeper_of(tmp_path, ledger)
    keeper.turn(ledger.more(5), 0, last=True)
    first = (tmp_path / HISTORY_FILE).read_text()
    keeper.turn(ledger.more(4), 0, last=True)
    (tmp_path / HISTORY_FILE).write_text(first)
    again = keeper_of(tmp_path, ledger)
    again._seq = 9
    again.turn(ledger.more(1), 0, last=True)
    assert sizes(tmp_path) == [5, 10]
    assert again.status()["problems"] == {}


def test_what_a_power_cut_left_of_a_note_is_removed(tmp_path: Path, ledger: Growing) -> None:
    keeper = keeper_of(tmp_path, ledger)
    keeper.turn(ledger.more(5), 0, last=True)
    keeper.turn(ledger.more(4), 0, last=True)
    whole = (tmp_path / HISTORY_FILE).read_bytes()
    first = whole.index(b"\n\n", whole.index("— ".encode())) + 2
    for end in range(first + 1, len(whole) - 1):
        (tmp_path / HISTORY_FILE).write_bytes(whole[:end])
        again = keeper_of(tmp_path, ledger)
        again._seq = 9
        again.turn([], 0, last=True)
        assert sizes(tmp_path) == [5, 9]
        assert (tmp_path / HISTORY_FILE).read_bytes() == whole


def test_nothing_is_signed_that_contradicts_what_was_signed(tmp_path: Path, ledger: Growing) -> None:
    keeper = keeper_of(tmp_path, ledger)
    keeper.turn(ledger.more(9), 0, last=True)
    before = (tmp_path / HISTORY_FILE).read_text()

    def problem(seq: int, other: Growing) -> str:
        again = keeper_of(tmp_path, other)
        again._seq = seq
        assert again.turn([], 0) is None
        assert again.turn(other.more(EVERY_ENTRIES), 100, last=True) is None
        assert (tmp_path / HISTORY_FILE).read_text() == before
        (said,) = again.status()["problems"].values()
        return str(said)

    rewritten = Growing()
    rewritten.more(3)
    rewritten.disk.log[-1] = Entry(3, 1, 3, "", "epoch.started", b"{1}", bytes(32))
    rewritten.more(6)
    assert "entry 9 is not the one that was signed" in problem(9, rewritten)
    (tmp_path / TREE_FILE).unlink()
    assert "its first 9 entries are not those that were signed" in problem(9, rewritten)
    short = Growing()
    short.more(4)
    assert "it ends at entry 4 and a checkpoint of 9 entries was signed" in problem(4, short)
    (tmp_path / KEY_FILE).rename(tmp_path / "elsewhere")
    assert "the key of its checkpoints" in problem(9, ledger)
    (tmp_path / KEY_FILE).write_text(SigningKey.generate().text())
    assert "does not count: it is not signed by" in problem(9, ledger)


def test_a_disk_that_is_full_is_told_and_tried_again(tmp_path: Path, ledger: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    keeper = keeper_of(tmp_path, ledger)
    keeper.turn(ledger.more(2), 0, last=True)
    whole = (tmp_path / HISTORY_FILE).read_text()
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:50]))
        assert keeper.turn(ledger.more(EVERY_ENTRIES), 100) == 10
        assert keeper.turn(ledger.more(EVERY_ENTRIES), 101) == 9
    assert (tmp_path / HISTORY_FILE).read_text() == whole
    status = keeper.status()
    assert (status["entries"], status["unsigned"]) == (2, 2 * EVERY_ENTRIES)
    assert "No space left" in status["problems"][str(tmp_path / HISTORY_FILE)]
    assert keeper.turn([], 110) is None
    assert sizes(tmp_path) == [2, 2002]
    assert keeper.status()["problems"] == {}


def test_a_home_that_cannot_be_read_yet_is_tried_again(tmp_path: Path, ledger: Growing) -> None:
    folder = tmp_path / "home"
    keeper = keeper_of(folder, ledger)
    assert keeper.turn(ledger.more(2), 0) == 10
    assert "No such file" in str(keeper.status()["problems"])
    folder.mkdir()
    assert keeper.turn(ledger.more(2), 5) == 5
    keeper.turn([], 10, last=True)
    assert sizes(folder) == [4]


def test_a_place_out_of_order_gets_the_newest_later_and_holds_nothing_up(tmp_path: Path, ledger: Growing) -> None:
    box = Box()
    keeper = keeper_of(tmp_path, ledger, box)
    keeper.turn(ledger.more(EVERY_ENTRIES), 0)
    box.broken = True
    for at in (1, 2, 3):
        keeper.turn(ledger.more(EVERY_ENTRIES), at)
    assert keeper.status()["problems"] == {"box": "no route"}
    assert sizes(tmp_path) == [1000, 2000, 3000, 4000]
    box.broken = False
    assert keeper.turn([], 10) == 1
    assert keeper.turn([], 11) is None
    assert keeper.status()["problems"] == {}
    key = PublicKey.parse((tmp_path / PUBLIC_FILE).read_text())
    assert [key.checkpoint(note).size for note in box.notes] == [1000, 4000]


def test_a_restart_brings_the_newest_to_its_place_once(tmp_path: Path, ledger: Growing) -> None:
    copy = tmp_path / "copy.log"
    for new in (3, 2, 0):
        keeper = Keeper(Signer(tmp_path, ledger.reader), [destination_of(str(copy))])
        keeper._seq = len(ledger.disk.log)
        keeper.turn([], 0)
        keeper.turn(ledger.more(new), 0, last=True)
    assert copy.read_text() == (tmp_path / HISTORY_FILE).read_text()
    assert len(list(history(copy.read_text()))) == 2


class Taking(BaseHTTPRequestHandler):
    taken: list[str]
    answer: int

    def do_POST(self) -> None:
        note = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.answer == 200:
            self.taken.append(note)
        self.send_response(self.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def taking() -> Iterator[tuple[type[Taking], str]]:
    handler = type("Handler", (Taking,), {"taken": [], "answer": 200})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler, f"http://user:secret@127.0.0.1:{server.server_port}/take?token=secret"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_takes_each_note_as_it_is(tmp_path: Path, ledger: Growing, taking: tuple[type[Taking], str]) -> None:
    handler, url = taking
    url = url.replace("user:secret@", "")
    keeper = Keeper(Signer(tmp_path, ledger.reader), [destination_of(url)])
    handler.answer = 503
    keeper.turn(ledger.more(2), 0, last=True)
    assert keeper.status()["problems"] == {"http://127.0.0.1": "it answered 503 Service Unavailable"}
    handler.answer = 200
    keeper.turn([], 10)
    assert handler.taken == [one.note for one in history((tmp_path / HISTORY_FILE).read_text())]
    assert keeper.status()["problems"] == {}


def test_a_ledger_on_sqlite_is_signed_by_its_thread_to_the_last_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def write(many: int) -> Keeper:
        keeper = Keeper.beside(tmp_path, partial(Reader, path))
        make = SqliteLedger.open if path.exists() else SqliteLedger.create
        store = make(path, SystemClock(), on_failure=lambda _: None, keeper=keeper)
        store.open_epoch()
        for number in range(many):
            store.append("", EpochStarted(number, "1"))
        await store.close()
        return keeper

    for many in (1200, 7):
        keeper = asyncio.run(write(many))
    assert sizes(tmp_path)[-1] == 1207
    assert {size for size in sizes(tmp_path)} >= {1200, 1207}
    assert (keeper.status()["entries"], keeper.status()["unsigned"], keeper.status()["problems"]) == (1207, 0, {})
    reader = Reader(path)
    found = signed(histories(tmp_path, []), public_key(tmp_path, None))
    assert reader.verify(found.heads) == 1207
    reader.close()


def test_a_ledger_that_never_opened_has_no_thread_to_wait_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def test() -> None:
        keeper = Keeper.beside(tmp_path, partial(Reader, path))
        await SqliteLedger.create(path, SystemClock(), on_failure=lambda _: None, keeper=keeper).close()
        keeper.join()

    asyncio.run(test())
    assert list(tmp_path.iterdir()) == [path]


def test_a_ledger_in_memory_is_held_against_what_was_signed_too(tmp_path: Path, ledger: Growing) -> None:
    keeper_of(tmp_path, ledger).turn(ledger.more(5), 0, last=True)
    (head,) = signed(histories(tmp_path, []), public_key(tmp_path, None)).heads
    ledger.more(2)
    assert ledger.disk.verify([head]) == 7
    with pytest.raises(LedgerDamaged, match="entry 1: it or one up to entry 5 is not the one that was signed"):
        ledger.disk.verify([head._replace(root=bytes(32))])
    with pytest.raises(LedgerDamaged, match="entry 8: it is missing"):
        ledger.disk.verify([head._replace(size=9)])


def test_sealing_signs_at_once_what_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def test() -> None:
        keeper = Keeper.beside(tmp_path, partial(Reader, path))
        store = SqliteLedger.create(path, SystemClock(), on_failure=lambda _: None, keeper=keeper)
        store.open_epoch()
        for many in (3, 0, 4):
            for number in range(many):
                store.append("", EpochStarted(number, "1"))
            await store.flush()
            await asyncio.to_thread(keeper.seal, 60)
        assert sizes(tmp_path) == [3, 7]
        await store.close()

    asyncio.run(test())
    assert sizes(tmp_path) == [3, 7]
