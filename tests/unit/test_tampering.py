"""Every way to tamper with a ledger, done to a real file: the audit names the first bad entry, and so does the verifier in the bundle.

The verifier runs as its reader would run it: a fresh interpreter, isolated, with no Interlock in sight.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from interlock.clock import SystemClock
from interlock.orchestrator.ledger import verify_bundle
from interlock.orchestrator.ledger.bundle import export, prove
from interlock.orchestrator.ledger.chain import GENESIS, link
from interlock.orchestrator.ledger.checkpoints import HISTORY_FILE, KEY_FILE, PUBLIC_FILE, Signer
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.merkle import continues, includes, leaf
from interlock.orchestrator.ledger.notes import PublicKey, SigningKey, history
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.signed import histories, notes, public_key, signed
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.schemas.entries import TaskAccepted
from interlock.schemas.errors import CheckpointDamaged, LedgerDamaged, NoCheckpoints, NoProof

ACCEPTED = TaskAccepted("billing", "1.0.0", "a.x", "1.0.0", {"x": 1}, {}, "trusted", "ann")
SIZES = [10, 20, 30]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of 33 entries, the first 10, 20 and 30 of which are signed."""
    home = tmp_path / "home"
    home.mkdir()

    async def write() -> None:
        store = SqliteLedger.create(home / "ledger.db", SystemClock(), on_failure=lambda _: None)
        store.open_epoch()
        for number in range(33):
            store.append(f"tsk_{number}", ACCEPTED)
        await store.close()

    asyncio.run(write())
    for size in SIZES:
        keeper = Keeper(Signer(home, lambda: Reader(home / "ledger.db")))
        keeper._seq = size
        keeper.turn([], 0, last=True)
    return home


def edit(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        db.executescript("DROP TRIGGER entries_keep; DROP TRIGGER entries_stay;")
        for statement in statements:
            db.execute(statement)


def rechain(folder: Path, begin: int) -> None:
    """Give every entry from `begin` on the hash that fits."""
    with closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        previous = db.execute("SELECT hash FROM entries WHERE seq = ?", (begin - 1,)).fetchone() if begin > 1 else (GENESIS,)
        head = previous[0]
        for seq, epoch, at, task, kind, data in db.execute(
            "SELECT seq, epoch, at, task, kind, data FROM entries WHERE seq >= ? ORDER BY seq", (begin,)
        ).fetchall():
            head = link(head, seq, epoch, at, task, kind, data)
            db.execute("UPDATE entries SET hash = ? WHERE seq = ?", (head, seq))


def changed_byte(folder: Path) -> None:
    edit(folder, "UPDATE entries SET data = CAST(replace(CAST(data AS TEXT), 'ann', 'bob') AS BLOB) WHERE seq = 17")


def changed_hash(folder: Path) -> None:
    edit(folder, "UPDATE entries SET hash = zeroblob(32) WHERE seq = 17")


def removed(folder: Path) -> None:
    edit(folder, "DELETE FROM entries WHERE seq = 17")


def removed_and_closed_up(folder: Path) -> None:
    edit(
        folder,
        "DELETE FROM entries WHERE seq = 17",
        "UPDATE entries SET seq = -(seq - 1) WHERE seq > 17",
        "UPDATE entries SET seq = abs(seq)",
    )


def swapped(folder: Path) -> None:
    edit(
        folder,
        "UPDATE entries SET seq = 1000 WHERE seq = 17",
        "UPDATE entries SET seq = 17 WHERE seq = 21",
        "UPDATE entries SET seq = 21 WHERE seq = 1000",
    )


def cut_off(folder: Path) -> None:
    edit(folder, "DELETE FROM entries WHERE seq > 26", "DELETE FROM tasks WHERE seq > 26")


def rewritten(folder: Path) -> None:
    """Changed, with every hash after it made anew and the rows with them: the chain is whole."""
    changed_byte(folder)
    rechain(folder, 17)


def rewritten_whole(folder: Path) -> None:
    edit(folder, "UPDATE entries SET at = at + 1", "UPDATE tasks SET accepted_at = accepted_at + 1")
    rechain(folder, 1)


def rewritten_and_cut_off(folder: Path) -> None:
    rewritten(folder)
    with closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        db.execute("DELETE FROM entries WHERE seq > 18")


TAMPERED: list[tuple[Callable[[Path], None], int, str]] = [
    (changed_byte, 17, "its hash does not fit its content"),
    (changed_hash, 17, "its hash does not fit its content"),
    (removed, 17, "it is missing, entry 18 stands in its place"),
    (removed_and_closed_up, 17, "its hash does not fit its content"),
    (swapped, 17, "its hash does not fit its content"),
    (cut_off, 27, "it is missing"),
    (rewritten, 11, "it or one up to entry 20 is not the one that was signed"),
    (rewritten_whole, 1, "it or one up to entry 10 is not the one that was signed"),
    (rewritten_and_cut_off, 19, "it is missing"),
]


def audit(folder: Path, *places: Path, key: str | None = None, refold: bool = False) -> int:
    reader = Reader(folder / "ledger.db")
    try:
        found = signed(histories(folder, [str(place) for place in places]), public_key(folder, key))
        number = reader.verify(found.heads, refold)
        if found.bad is not None:
            raise found.bad
    finally:
        reader.close()
    return number


def bundle_of(folder: Path) -> Path:
    """The bundle, and beside it a zip with another name for its verifier, so that nothing of ours is on the path."""
    path = folder.parent / "bundle.zip"
    key = public_key(folder, None)
    reader = Reader(folder / "ledger.db")
    export(reader.walk, notes(histories(folder, []), key), key, path)
    reader.close()
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", *map(str, words)], capture_output=True, text=True, check=False, timeout=60, cwd="/")


@pytest.mark.parametrize(("tamper", "seq", "problem"), TAMPERED, ids=[case[0].__name__ for case in TAMPERED])
def test_tampering_names_the_first_bad_entry(folder: Path, tamper: Callable[[Path], None], seq: int, problem: str) -> None:
    assert audit(folder, refold=True) == 33
    tamper(folder)
    with pytest.raises(LedgerDamaged, match=problem) as caught:
        audit(folder)
    assert caught.value.seq == seq
    done = run(bundle_of(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"NOT INTACT: entry {seq}: {problem}")


def test_rows_beside_the_entries_are_proved_by_the_fold(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        db.execute("UPDATE tasks SET outcome = 'success' WHERE seq = 7")
    assert audit(folder) == 33
    with pytest.raises(LedgerDamaged, match="the task tsk_6 that it began is not stored as the entries tell it") as caught:
        audit(folder, refold=True)
    assert caught.value.seq == 7


# --- checkpoints -----------------------------------------------------------------------------------------------------------------


def note_of(folder: Path, number: int) -> str:
    return [one.note for one in history((folder / HISTORY_FILE).read_text())][number]


def forged(folder: Path) -> None:
    """Another key under the same name."""
    key = SigningKey.parse((folder / KEY_FILE).read_text())
    other = SigningKey(key.name, bytes(32))
    replace_note(folder, other.sign(note_of(folder, 1).partition("\n\n")[0] + "\n"))


def altered(folder: Path) -> None:
    replace_note(folder, note_of(folder, 1).replace("\n20\n", "\n21\n"))


def unsigned(folder: Path) -> None:
    replace_note(folder, note_of(folder, 1).partition("\n\n")[0] + "\n")


def borrowed(folder: Path) -> None:
    """The signature of another checkpoint."""
    replace_note(folder, note_of(folder, 1).partition("\n\n")[0] + "\n\n" + note_of(folder, 0).partition("\n\n")[2])


def replace_note(folder: Path, by: str) -> None:
    text = (folder / HISTORY_FILE).read_text()
    (folder / HISTORY_FILE).write_text(text.replace(note_of(folder, 1), by))


@pytest.mark.parametrize("tamper", [forged, altered, unsigned, borrowed])
def test_a_forged_or_unsigned_checkpoint_is_named(folder: Path, tamper: Callable[[Path], None]) -> None:
    tamper(folder)
    with pytest.raises(CheckpointDamaged) as caught:
        audit(folder)
    assert (caught.value.line, caught.value.seq) == (7, 11)
    done = run(bundle_of(folder))
    assert done.returncode == 1
    assert done.stderr.startswith("NOT INTACT: checkpoint 2 is forged or unsigned, after entry 10: ")


def test_a_forged_checkpoint_hides_no_damage_and_vouches_for_none(folder: Path) -> None:
    rewritten(folder)
    forged(folder)
    with pytest.raises(LedgerDamaged) as caught:
        audit(folder)
    assert caught.value.seq == 11
    assert "up to entry 30" in str(caught.value)


def test_whoever_rewrites_the_whole_home_fails_at_the_copy_and_the_key_elsewhere(folder: Path, tmp_path: Path) -> None:
    copy, key = tmp_path / "copy.log", (folder / PUBLIC_FILE).read_text().strip()
    copy.write_text((folder / HISTORY_FILE).read_text())
    rewritten(folder)
    for name in (HISTORY_FILE, "checkpoints.tree"):
        (folder / name).unlink()
    keeper = Keeper(Signer(folder, lambda: Reader(folder / "ledger.db")))
    keeper._seq = 33
    keeper.turn([], 0, last=True)
    assert audit(folder) == 33
    with pytest.raises(LedgerDamaged, match="its history was rewritten"):
        audit(folder, copy)
    for name in (HISTORY_FILE, "checkpoints.tree", KEY_FILE):
        (folder / name).unlink()
    keeper = Keeper(Signer(folder, lambda: Reader(folder / "ledger.db")))
    keeper._seq = 33
    keeper.turn([], 0, last=True)
    assert audit(folder) == 33
    with pytest.raises(LedgerDamaged, match="its history was rewritten"):
        audit(folder, copy, key=key)


def test_what_other_ledgers_have_at_a_shared_place_is_none_of_ours(folder: Path, tmp_path: Path) -> None:
    other = SigningKey.generate()
    copy = tmp_path / "copy.log"
    copy.write_text(f"{other.sign(f'{other.name}{chr(10)}5{chr(10)}AAAA{chr(10)}')}\n{(folder / HISTORY_FILE).read_text()}")
    assert audit(folder, copy) == 33


def test_checkpoints_that_cannot_be_read_prove_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoCheckpoints, match="No such file"):
        audit(folder, tmp_path / "none.log")
    with pytest.raises(NoCheckpoints, match="no public Ed25519 key"):
        audit(folder, key="oops")
    (folder / PUBLIC_FILE).unlink()
    with pytest.raises(NoCheckpoints, match="the public key is not beside them"):
        audit(folder)


# --- bundles and proofs ------------------------------------------------------------------------------------------------------------


def test_an_intact_bundle_checks_itself_and_a_trusted_copy_checks_it_against_a_known_key(folder: Path, tmp_path: Path) -> None:
    bundle, key = bundle_of(folder), (folder / PUBLIC_FILE).read_text().strip()
    said = f"intact: 33 entries, the first 30 signed (checkpoints: 3) by {key}\n"
    verifier = Path(verify_bundle.__file__)
    for words in ([bundle], [bundle, key], [verifier, bundle], [verifier, bundle, key]):
        done = run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    other = str(SigningKey.generate().public)
    assert run(verifier, bundle, other).returncode == 1
    assert bundle.stat().st_mode & 0o777 == 0o600
    (tmp_path / "text").write_text("no zip")
    assert (run(verifier, tmp_path / "text").returncode, run(verifier).returncode) == (2, 2)


def test_the_verifier_is_short_and_needs_nothing_of_ours(folder: Path) -> None:
    source = Path(verify_bundle.__file__).read_text()
    assert len(source.splitlines()) < 150
    assert "import interlock" not in source
    assert "from interlock" not in source
    with zipfile.ZipFile(bundle_of(folder)) as bundle:
        assert bundle.read("__main__.py").decode() == source


def test_a_ledger_that_was_never_signed_can_be_exported(folder: Path) -> None:
    for name in (HISTORY_FILE, PUBLIC_FILE):
        (folder / name).unlink()
    done = run(bundle_of(folder))
    assert (done.returncode, done.stdout) == (0, "intact: 33 entries, none of them signed\n")


def test_one_entry_is_proved_to_who_has_a_checkpoint_and_no_ledger(folder: Path) -> None:
    from base64 import b64decode

    found = signed(histories(folder, []), public_key(folder, None))
    reader = Reader(folder / "ledger.db")
    proof = json.loads(json.dumps(prove(reader, found, 17, 20)))
    head = PublicKey.parse((folder / PUBLIC_FILE).read_text()).checkpoint(proof["checkpoint"])
    path = [b64decode(one) for one in proof["inclusion"]]
    assert includes(head.root, head.size, 16, leaf(bytes.fromhex(proof["entry"]["hash"])), path)
    since = [b64decode(one) for one in proof["since"]["consistency"]]
    assert continues(found.heads[1].root, 20, head.root, head.size, since)
    for seq, size, problem in ((31, None, "30 entries are signed"), (17, 31, "continues none of 31")):
        with pytest.raises(NoProof, match=problem):
            prove(reader, found, seq, size)
    reader.close()
    rewritten(folder)
    reader = Reader(folder / "ledger.db")
    with pytest.raises(NoProof, match="not the one that was signed"):
        prove(reader, found, 5, None)
    reader.close()
    with closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        db.execute("DELETE FROM entries WHERE seq > 12")
    reader = Reader(folder / "ledger.db")
    with pytest.raises(NoProof, match="fewer entries than were signed"):
        prove(reader, found, 5, None)
    reader.close()
