"""The command about limits, as it is typed."""

import json
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from test_cli import Shell, make_app

from interlock import LocalBus
from interlock.cli import connection


@pytest.fixture
def shell() -> Iterator[Shell]:
    with LocalBus(make_app()) as bus, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
        yield Shell(bus)


def test_budget_shows_and_changes_what_is_left(shell: Shell) -> None:
    task = shell.submit("question", '{"number": 9}', "--id", "dear")
    item = shell.asked(task)
    done = shell.lines("budget", "dear", "tokens=200000", "usd=none", "--why", "a long one")
    assert done[0] == "tsk_dear  question  for default  live"
    assert "tokens 0 0 200,000 200,000 .................... 0 %" in [" ".join(line.split()) for line in done]
    meters = json.loads(shell("budget", "dear", "--json").stdout)["meters"]
    assert meters["tokens"] == {"used": 0, "reserved": 0, "limit": 200_000, "left": 200_000}
    assert shell.lines("budget") == ["No scope is limited."]
    rows = shell.lines("budget", "tenant:acme", "usd=100", "--per", "day")
    assert rows[1].split()[0::2] == ["tenant:acme", "usd", "0", "100", "0"]
    assert json.loads(shell("budget", "--json").stdout)[0]["scope"] == "tenant:acme"
    assert shell.lines("budget", "tenant:acme", "usd=none", "--per", "day") == ["tenant:acme has no limit."]
    for words in (("dear", "gold=1"), ("dear", "usd"), ("dear", "usd=1", "--per", "day"), ("bus", "seconds=1")):
        assert shell("budget", *words).exit_code == 2
    assert any("set limits: tokens 200000, usd unlimited: a long one" in line for line in shell.lines("show", "dear"))
    shell.bus.inbox.approve(item)
    shell.bus.task(task).outcome(timeout=10)
    assert shell.lines("budget", "dear")[0] == "tsk_dear  question  for default  success"
