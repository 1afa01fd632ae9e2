"""What was erased is gone from the file and from the log beside it; who changes keys or contents by hand is found out."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ledger_places import Ticking, cleaned, unexpected
from test_ledger_content import OTHER, SECRET, TASK, called, story

from interlock.orchestrator.ledger.cipher import NO_SECRET
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.sqlite_file import LedgerFile
from interlock.schemas import entries as e
from interlock.schemas.errors import LedgerDamaged

CALL = 3
"""The number of the entry with the model call."""


def opened(path: Path) -> SqliteLedger:
    make = SqliteLedger.open if path.exists() else SqliteLedger.create
    ledger = make(path, Ticking(), on_failure=unexpected)
    ledger.open_epoch()
    return ledger


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def secrets_of(path: Path) -> dict[str, bytes]:
    with closing(Reader(path)) as reader:
        return dict(reader.all("SELECT * FROM keys"))


def stored_of(path: Path, task: str) -> list[bytes]:
    with closing(Reader(path)) as reader:
        return [data for (data,) in reader.all("SELECT data FROM contents WHERE task = ?", task)]


def test_an_erased_key_and_what_it_kept_are_in_no_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        ledger = opened(path)
        for number in range(40):  # others before and after it, so that its rows are in the middle of pages
            for task, fact in story(TASK if number == 20 else f"tsk_{number:03}_{number * number}"):
                ledger.append(task, fact)
            await ledger.flush()
        secret, kept = secrets_of(path)[TASK], stored_of(path, TASK)
        assert len(kept) > 3
        assert all(piece in on_disk(path) for piece in (secret, *kept))
        ledger.append(TASK, e.TaskErased("ann", "asked to"))
        await ledger.flush()
        await cleaned(ledger)
        assert not [piece for piece in (secret, *kept) if piece in on_disk(path)]
        ledger.append(TASK, called(9, [SECRET], SECRET))
        await ledger.close()
        assert not [piece for piece in (secret, *kept) if piece in on_disk(path)]

    asyncio.run(main())
    assert secrets_of(path)[TASK] == NO_SECRET


def test_what_was_pruned_is_in_no_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        ledger = opened(path)
        for task, fact in (*story(TASK), *story(OTHER)):
            ledger.append(task, fact)
        await ledger.flush()
        kept = stored_of(path, TASK)
        ledger.append(TASK, e.ContentPruned("ann", 184))
        await ledger.flush()
        assert not ledger.free_room(), "it is overwritten"
        await cleaned(ledger)
        assert not [piece for piece in kept if piece in on_disk(path)]
        await ledger.close()

    asyncio.run(main())


def test_what_a_task_says_is_in_no_file_in_plain_words(tmp_path: Path) -> None:
    """Else copies of it would stay behind in pages that SQLite has moved rows out of, however it overwrites what it frees."""
    path = tmp_path / "ledger.db"

    async def main() -> None:
        ledger = opened(path)
        for task, fact in story(TASK):
            ledger.append(task, fact)
        await ledger.flush()
        with closing(Reader(path)) as reader:
            assert SECRET in repr(reader.inbox(open_only=False)), "people read it"
            assert SECRET in repr(reader.task(TASK))
        assert SECRET.encode() not in on_disk(path)
        await ledger.close()

    asyncio.run(main())
    assert SECRET.encode() not in on_disk(path)


def test_traces_that_a_reader_keeps_go_when_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.orchestrator.ledger.threaded._CLEAN_SECONDS", 0.01)
    path = tmp_path / "ledger.db"

    async def main() -> None:
        ledger = opened(path)
        for task, fact in story(TASK):
            ledger.append(task, fact)
        await ledger.flush()
        secret = secrets_of(path)[TASK]
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM entries").fetchall()
            ledger.append(TASK, e.TaskErased("ann", "asked to"))
            await ledger.flush()
            assert ledger.traces
            ledger.append(TASK, e.TimerFired(1))
            await ledger.flush()
            assert ledger.stalled is None, "nobody waits for that reader"
            assert ledger.traces
        await cleaned(ledger)
        assert secret not in on_disk(path)
        await ledger.close()

    asyncio.run(main())


def edited(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER contents_keep")
        for statement in statements:
            db.execute(statement)


def other_key(path: Path) -> None:
    edited(path, f"UPDATE keys SET secret = (SELECT secret FROM keys WHERE task = '{OTHER}') WHERE task = '{TASK}'")


def no_key(path: Path) -> None:
    edited(path, f"DELETE FROM keys WHERE task = '{TASK}'")


def key_destroyed(path: Path) -> None:
    edited(path, f"UPDATE keys SET secret = zeroblob(64) WHERE task = '{TASK}'")


def content_changed(path: Path) -> None:
    edited(path, "UPDATE contents SET data = zeroblob(length(data))")


def content_swapped(path: Path) -> None:
    edited(
        path,
        "CREATE TABLE two AS SELECT name, data FROM contents LIMIT 2",
        "UPDATE contents SET data = (SELECT data FROM two WHERE two.name <> contents.name) WHERE name IN (SELECT name FROM two)",
    )


def content_removed(path: Path) -> None:
    edited(path, f"DELETE FROM contents WHERE task = '{TASK}'")


TAMPERED: list[tuple[Callable[[Path], None], int, str]] = [
    (other_key, 1, "its content does not open: it was changed, or the key of its task was"),
    (no_key, 1, "its content does not open"),
    (key_destroyed, 1, "its content is gone, and no entry says that it was erased"),
    (content_changed, CALL, "its content does not open"),
    (content_swapped, CALL, "its content does not open"),
    (content_removed, CALL, "its content is gone, and no entry says that it was pruned"),
]


@pytest.mark.parametrize(("tamper", "seq", "problem"), TAMPERED, ids=[case[0].__name__ for case in TAMPERED])
def test_keys_and_contents_are_proved_by_the_fold(tmp_path: Path, tamper: Callable[[Path], None], seq: int, problem: str) -> None:
    path = tmp_path / "ledger.db"

    async def write() -> None:
        ledger = opened(path)
        for task, fact in (*story(TASK), *story(OTHER)):
            ledger.append(task, fact)
        await ledger.close()

    asyncio.run(write())
    tamper(path)
    with closing(Reader(path)) as reader:
        assert reader.verify(refold=False) == 24, "the chain is of what is stored"
        with pytest.raises(LedgerDamaged, match=problem) as caught:
            reader.verify()
        assert caught.value.seq == seq


def test_a_key_that_was_put_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def write() -> None:
        ledger = opened(path)
        for task, fact in story(TASK):
            ledger.append(task, fact)
        await ledger.flush()
        secret = secrets_of(path)[TASK]
        ledger.append(TASK, e.TaskErased("ann", "asked to"))
        await ledger.close()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE keys SET secret = ?", (secret,))

    asyncio.run(write())
    with closing(Reader(path)) as reader, pytest.raises(LedgerDamaged):
        reader.verify()


def test_what_a_crash_after_an_erasure_left_in_the_log_goes_when_the_ledger_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"

    async def erase_and_die() -> tuple[SqliteLedger, bytes]:
        ledger = opened(path)
        for task, fact in story(TASK):
            ledger.append(task, fact)
        await ledger.flush()
        secret = secrets_of(path)[TASK]
        monkeypatch.setattr(LedgerFile, "clean", lambda self: None)
        ledger.append(TASK, e.TaskErased("ann", "asked to"))
        await ledger.flush()
        return ledger, secret

    async def main() -> None:
        dead, secret = await erase_and_die()
        assert secret in on_disk(path)
        monkeypatch.undo()
        heir = opened(path)
        await cleaned(heir)
        assert secret not in on_disk(path)
        await heir.close()
        dead.abandon()

    asyncio.run(main())
