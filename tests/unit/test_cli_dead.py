"""Dead letters at the command line: what is shown of them, and that a decision reaches the bus."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock.cli import connection, main
from interlock.schemas.errors import LetterOver, UnknownLetter

LETTER = {
    "item": "itm_1",
    "task": "tsk_a",
    "kind": "dead",
    "text": "3 replicas of worker ended on this shop.order.",
    "details": '{"agent":"worker"}',
    "asked_at": 1_700_000_000_000_000,
    "expires": 1_700_003_600_000_000,
    "decision": "",
}
WHOLE = {**LETTER, "message": {"type": "shop.order", "data": {"order": "\u001b[31m1"}}, "losses": ["its replica worker-1 ended"]}


class Dead:
    """The dead letters of a bus, as a test says."""

    def __init__(self, *letters: dict[str, Any]) -> None:
        self._letters, self.decided = letters, list[tuple[str, str, str]]()

    def list(self, *, open_only: bool, limit: int, after: str) -> Any:
        return self._after(open_only, after)[:limit]

    def count(self, *, open_only: bool, after: str) -> int:
        return len(self._after(open_only, after))

    def _after(self, open_only: bool, after: str) -> Any:
        names = [one["item"] for one in self._letters]
        shown = self._letters[names.index(after) + 1 if after else 0 :]
        return [one for one in shown if not (open_only and one["decision"])]

    def show(self, item: str) -> Any:
        if item != "itm_1":
            raise UnknownLetter(item=item)
        return WHOLE

    def retry(self, item: str, note: str) -> None:
        self.decided.append(("retry", item, note))

    def drop(self, item: str, note: str) -> None:
        raise LetterOver(item=item, why="tsk_a has ended as success")


class Bus:
    def __init__(self, dead: Dead) -> None:
        self.dead = dead


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Dead:
    letters = Dead(LETTER, {**LETTER, "item": "itm_0", "decision": "denied"})
    monkeypatch.setattr(connection, "connect", lambda address, name: nullcontext(Bus(letters)))
    return letters


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["dead", *words])


def test_those_that_wait_are_listed_and_all_on_request(dead: Dead) -> None:
    head, row = run("list").stdout.splitlines()
    assert head.split() == ["letter", "task", "since", "state", "what"]
    assert row.startswith("itm_1   tsk_a  2023-11-14 22:13:20 UTC  waits  3 replicas of worker")
    assert len(run("list", "--all").stdout.splitlines()) == 3
    (one,) = json.loads(run("list", "--json").stdout)
    assert (one["item"], one["expires"], one["details"]) == ("itm_1", "2023-11-14T23:13:20.000000Z", {"agent": "worker"})


def test_they_come_by_pages(dead: Dead) -> None:
    first = run("list", "--all", "--limit", "1")
    assert "itm_1" in first.stdout
    assert first.stderr == "1 more: `interlock dead list --all --after itm_1` shows what comes next.\n"
    last = run("list", "--all", "--limit", "1", "--after", "itm_1")
    assert "itm_0" in last.stdout
    assert last.stderr == ""
    assert run("list", "--all", "--after", "itm_0").stdout == "No dead letter came after it.\n"
    assert run("list", "--after", "itm_0").stdout == "No dead letter that came after it waits.\n"


def test_none_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "connect", lambda address, name: nullcontext(Bus(Dead())))
    assert run("list").stdout == "No dead letter waits.\n"
    assert run("list", "--all").stdout == "There are no dead letters.\n"


def test_one_is_shown_whole_with_nothing_hidden(dead: Dead) -> None:
    shown = run("show", "itm_1").stdout.splitlines()
    assert shown[0].startswith("itm_1  of task tsk_a  waits, until 2023-11-14")
    assert "  1. its replica worker-1 ended" in shown
    assert '  data = {"order": "\\u001b[31m1"}' in shown
    assert shown[-1] == "  interlock dead retry itm_1   or   interlock dead drop itm_1"
    assert json.loads(run("show", "itm_1", "--json").stdout)["losses"] == WHOLE["losses"]
    unknown = run("show", "itm_2")
    assert (unknown.exit_code, unknown.stderr) == (
        2,
        "No dead letter is called 'itm_2'. `interlock dead list --all` lists those that there are.\n",
    )


def test_a_decision_reaches_the_bus(dead: Dead) -> None:
    assert run("retry", "itm_1", "--note", "corrected").stdout == "itm_1 retried.\n"
    assert json.loads(run("retry", "itm_1", "--json").stdout) == {"item": "itm_1", "decision": "retried"}
    assert dead.decided == [("retry", "itm_1", "corrected"), ("retry", "itm_1", "")]
    over = run("drop", "itm_1")
    assert over.exit_code == 1
    assert over.stderr.startswith("itm_1 waits for no decision any more: tsk_a has ended as success.")
