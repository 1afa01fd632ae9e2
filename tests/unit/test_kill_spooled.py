"""A kill on a cluster whose database is away: nobody can write it down there, so it is kept in the bus's folder and said to stand."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from interlock.actors.supervisor.journal import Order
from interlock.actors.supervisor.spool import SPOOL, put, waiting
from interlock.cluster import backend
from interlock.cluster.calls import Silent
from interlock.schemas.errors import NoLedger, OrderNotKept, OrderStands, StoreAway, StoreFailed, StorePaused
from interlock.schemas.places import LEDGER_VARIABLE


class Actors:
    """In the place of all actors: each call ends as told."""

    def __init__(self, ends: dict[str, Exception]) -> None:
        self.ends = ends

    def __getattr__(self, name: str) -> str:
        return name

    async def insist(self, method: str, *args: Any, seconds: float = 0) -> Any:
        if method in self.ends:
            raise self.ends[method]


AWAY = StorePaused(path="postgresql://db", problem="away")
FAILED = StoreFailed(path="postgresql://db", problem="no such table")
UNREAD = StoreAway(path="postgresql://db", problem="away")
JUNK = NoLedger(path="ledger.db", problem="it cannot be read", remedy="Restore it.")


@pytest.mark.parametrize(
    "ends",
    [
        {"ping": AWAY, "kill": AWAY},
        {"kill": AWAY},
        {"ping": Silent(), "kill": AWAY},
        {"call": UNREAD, "kill": AWAY},
        {"call": JUNK, "kill": AWAY},
        {"ping": FAILED, "kill": FAILED},
    ],
)
def test_the_order_stands(ends: dict[str, Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({LEDGER_VARIABLE: f"postgresql:///nobody?host={tmp_path}"}))
    with pytest.raises(OrderStands) as stands:
        kill(ends, tmp_path, monkeypatch)
    (file,) = (tmp_path / SPOOL).iterdir()
    assert stands.value.path == str(file)
    assert json.loads(file.read_text())["task"] == "tsk_a"


def test_two_kills_of_one_task_at_one_moment_keep_the_first_and_both_hear_that_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, orders = os.fsync, [Order.made("tsk_a", "kill", by, "enough", 1) for by in ("ann", "bob")]
    kept: list[Path] = []

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        kept.append(put(tmp_path / SPOOL, orders[0]))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    kept.append(put(tmp_path / SPOOL, orders[1]))
    assert kept[0] == kept[1]
    assert waiting(tmp_path / SPOOL) == {kept[0]: orders[0]}
    assert list((tmp_path / SPOOL).iterdir()) == [kept[0]]


def test_where_nothing_can_be_written_it_is_said_that_nobody_will_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({LEDGER_VARIABLE: f"postgresql:///nobody?host={tmp_path}"}))
    (tmp_path / SPOOL).write_text("no folder")
    with pytest.raises(OrderNotKept, match=r"cannot be made durable: .*No such file.*; .*File exists.* Kill it again when there is room"):
        kill({"kill": AWAY}, tmp_path, monkeypatch)
    with pytest.raises(OrderNotKept, match="away"):
        kill({"kill": AWAY}, None, monkeypatch)


def kill(ends: dict[str, Exception], home: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    actors = Actors({"call": Silent(), **ends})
    monkeypatch.setattr(backend, "insist", actors.insist)
    monkeypatch.setattr(backend.ray, "get_actor", lambda *_, **__: actors)
    asyncio.run(backend.ClusterBackend("bus", "here", home=home).kill("tsk_a", "ann", "enough"))


def test_what_is_no_order_keeps_no_other_from_being_obeyed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = Order.made("tsk_a", "kill", "ann", "enough", 1)
    file = put(tmp_path / SPOOL, order)
    for name, words in (("a", b"\xff"), ("b", b"[]"), ("c", b'{"task": "tsk_b"}'), ("d", b"")):
        (tmp_path / SPOOL / name).write_bytes(words)
    (tmp_path / SPOOL / "folder").mkdir()
    for _ in range(2):
        assert waiting(tmp_path / SPOOL) == {file: order}
    assert len(caplog.records) == 5, "each is said once"
