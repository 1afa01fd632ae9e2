"""Every ledger that was kept of an earlier version is brought up to date, verified, folded and worked on by the code of today."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from keep_ledger import keep, load, on_bus

from interlock.orchestrator.ledger.folds import run_record
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.stores import prepare
from interlock.orchestrator.state import fold
from interlock.schemas.errors import Fenced
from interlock.schemas.places import LEDGER_FILE

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEPT = sorted(path for path in FIXTURES.iterdir() if path.is_dir() and path.name.startswith("ledger-"))


def holds(now: Any, then: Any, where: str = "") -> None:
    """All that was said then is said now; what a later version knows besides is its own."""
    if isinstance(then, dict) and isinstance(now, dict):
        assert then.keys() <= now.keys(), where
        for key, value in then.items():
            holds(now[key], value, f"{where}/{key}")
    elif isinstance(then, list) and isinstance(now, list):
        assert len(then) == len(now), where
        for number, pair in enumerate(zip(now, then, strict=True)):
            holds(*pair, f"{where}/{number}")
    else:
        assert now == then, where


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_it_says_what_it_said(kept: Path, tmp_path: Path) -> None:
    expected = load(kept, tmp_path)
    prepare(tmp_path / LEDGER_FILE)
    with closing(Reader(tmp_path / LEDGER_FILE)) as reader:
        assert reader.verify() == expected["entries"]
        holds([row._asdict() for row in reader.tasks()], expected["tasks"])
        holds([row._asdict() for row in reader.inbox(open_only=False)], expected["inbox"])
        holds([run_record(reader.entries(row.task)).model_dump(mode="json") for row in reader.tasks()], expected["records"])
        for row in reader.tasks():
            assert (fold(row.task, reader.entries(row.task)).outcome or "") == row.outcome


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_its_tasks_go_on(kept: Path, tmp_path: Path) -> None:
    load(kept, tmp_path)

    async def main() -> None:
        async with await on_bus(tmp_path) as bus:
            for item in await bus.inbox.list():
                await bus.inbox.approve(item["item"], "now", by="boss")
            listening = bus.task("tsk_listening")
            await listening.send_json("kept.more", {"text": "at last"})
            async with asyncio.timeout(60):
                results = [await bus.task(f"tsk_{name}").result() for name in ("open", "asked")]
                assert [result["text"] for result in results] == ["open is paid", "now"]
                assert (await listening.result())["text"] == "at last"
            # What was done, decided and ordered before there was this version still counts.
            again = await bus.submit_json("order", {"order": "paid", "how": "pay"}, id="again")
            while not (asked := await bus.inbox.list()):  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.01)
            await bus.inbox.approve(asked[0]["item"], by="boss")
            await again.result()
            ends = [entry.open() for entry in await again.entries() if entry.kind == "effect.ended"]
            assert ends[0].same_as  # type: ignore[attr-defined]
            assert (await bus.task("tsk_killed").kill("again", by="bob"))["by"] == "ann"
            with pytest.raises(Fenced):
                await bus._backend._assembly.supervisor.budgets.open("tsk_killed", {}, 0)  # type: ignore[attr-defined]
            assert await bus.verify() > 60

    asyncio.run(main())


def test_one_of_today_can_be_kept(tmp_path: Path) -> None:
    keep(tmp_path / "kept")
    folder = tmp_path / "bus"
    folder.mkdir()
    expected = load(tmp_path / "kept", folder)
    with closing(Reader(folder / LEDGER_FILE)) as reader:
        assert reader.verify() == expected["entries"]
        assert {row.state for row in reader.tasks()} == {"running", "waiting", "ended"}
        outcomes = {row.outcome for row in reader.tasks()}
        assert outcomes == {"", "success", "failed", "rejected", "killed"}
