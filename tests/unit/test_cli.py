"""The command line against a bus: what each command shows, and the sentence and exit code of every no."""

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from interlock import AgentContext, App, Budget, LocalBus, Message, Never, ToolContext, WorkflowContext
from interlock.cli import connection, main
from interlock.schemas.entries import ItemAsked
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.record import RunRecord

HOSTILE = "[bold]red[/bold] \x1b[31m\u202egnp"
SHOWN = "[bold]red[/bold] \\u001b[31m\\u202egnp"


class Order(Message, contract="order.request", version="1.0.0"):
    number: int
    note: str = ""


class Done(Message, contract="order.done", version="1.0.0"):
    said: str


def make_app() -> App:
    """`echo` answers, pays (which needs an approval) or fails; `question` asks a human; `guarded` takes even numbers only."""
    app = App("shop")

    @app.tool(effect="irreversible", system="bank", repeat=Never())
    async def transfer(amount: int, to: str, ctx: ToolContext) -> bool:
        """Transfer money."""
        return True

    @app.agent("clerk", version="1.0.0", tools=[transfer])
    async def clerk(request: Order, ctx: AgentContext) -> Done:
        if request.note == "fail":
            raise ValueError(HOSTILE)
        if request.note == "pay":
            await ctx.call(transfer, amount=request.number, to=HOSTILE)
        return Done(said=f"order {request.number} done")

    @app.workflow("echo", version="1.0.0", budget=Budget(tokens=1000, steps=10, seconds=60, usd="0.50", writes={"bank": 1}))
    async def echo(request: Order, ctx: WorkflowContext) -> Done:
        return await ctx.ask(request, returns=Done)

    @app.workflow("question", version="1.0.0")
    async def question(request: Order, ctx: WorkflowContext) -> Done:
        answer = await ctx.ask_human(f"Shall it be {request.number}?\n{HOSTILE}", number=request.number)
        return Done(said=f"{answer.approved}: {answer.note}")

    @app.workflow("changeable", version="1.0.0", receives=Order)
    async def changeable(request: Order, ctx: WorkflowContext) -> Done:
        return Done(said=f"order {(await ctx.receive(Order)).number} instead of {request.number}")

    def is_even(request: Order) -> bool:
        return request.number % 2 == 0

    @app.workflow("guarded", version="1.0.0", entry=is_even)
    async def guarded(request: Order, ctx: WorkflowContext) -> Done:
        return Done(said="even")

    return app


class Shell(NamedTuple):
    """A bus, and a way to type commands at it."""

    bus: LocalBus

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, list(words), input=stdin)

    def lines(self, *words: str) -> list[str]:
        """What a command prints that succeeds without a word on stderr."""
        done = self(*words)
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def submit(self, *words: str) -> str:
        (task,) = self.lines("submit", *words)
        return task

    def asked(self, task: str) -> str:
        """The inbox item that a task waits for, as soon as there is one."""
        return next(event.fact.item for event in self.bus.task(task).events() if isinstance(event.fact, ItemAsked))


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with LocalBus(make_app()) as bus, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
        yield Shell(bus)


# --- submit -------------------------------------------------------------------------------------------------------------------


def test_submit_prints_the_id_and_again_is_the_same_task(shell: Shell) -> None:
    assert shell.submit("echo", '{"number": 1}', "--id", "one") == "tsk_one"
    assert json.loads(shell("submit", "echo", '{"number":1}', "--id", "tsk_one", "--json").stdout) == {"task": "tsk_one"}


def test_submit_and_wait_prints_the_result(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("requests") / "request.json"
    file.write_text('{"number": 2}')
    for request, stdin in (('{"number": 2}', None), (f"@{file}", None), ("-", '{"number": 2}')):
        done = shell("submit", "echo", request, "--wait", stdin=stdin)
        assert (done.exit_code, json.loads(done.stdout), done.stderr) == (0, {"said": "order 2 done"}, "")
    whole = json.loads(shell("submit", "echo", '{"number": 2}', "--wait", "--json", "--id", "two").stdout)
    assert whole == {"task": "tsk_two", "outcome": "success", "reason": "", "result": {"said": "order 2 done"}}


def test_a_task_that_fails_is_a_no(shell: Shell) -> None:
    done = shell("submit", "echo", '{"number": 3, "note": "fail"}', "--wait", "--json", "--id", "bad")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["outcome"], told["result"]) == (1, "failed", None)
    assert done.stderr == (
        f"tsk_bad ended as failed: Agent clerk failed on order.request 1.0.0: ValueError: {SHOWN}. The workflow may catch AgentFailed "
        "and go another way. `interlock show tsk_bad` shows every step.\n"
    )


def test_a_budget_is_lowered(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 4}', "--budget", "tokens=500, usd=0.10,writes/bank=0", "--id", "cheap")
    shell.bus.task(task).outcome(timeout=10)
    lines = shell.lines("show", task)
    assert [line for line in lines if line.startswith(("  tokens:", "  usd:", "  steps:", "  writes/"))] == [
        "  tokens: 0 of 500",
        "  steps: 0 of 10",
        "  usd: 0 of 0.10",
        "  writes/bank: 0 of 0",
    ]


# --- every no: a sentence on stderr, nothing on stdout, an exit code ------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("submit", "nope", "{}"),
            2,
            "No workflow is called 'nope'. This bus runs: changeable, echo, guarded, question. "
            "Deploy the app that declares it, or use one of these names.",
        ),
        (
            ("submit", "echo", '{"number": "x"}'),
            2,
            'order.request 1.0.0 refuses this message: at /number: "x" is not of type "integer". '
            "Nothing was sent; correct the field and send it again.",
        ),
        (
            ("submit", "guarded", '{"number": 3}'),
            1,
            "guarded does not take this request: its entry condition is_even does not hold. "
            "Nothing was started; submit when the condition holds.",
        ),
        (
            ("submit", "echo", '{"number": 1}', "--budget", "tokens=5000"),
            2,
            "A submit may only lower the workflow's budget: tokens is 1000 and 5000 was asked. "
            "Ask for at most 1000, or change the workflow.",
        ),
        (
            ("submit", "echo", '{"number": 1}', "--budget", "steps=0"),
            1,
            "The budget is too small to start: steps is 0 and the first step needs more than 0. Raise steps, or ask for less.",
        ),
        (
            ("submit", "echo", '{"number": 1}', "--id", "Öl"),
            2,
            "task id 'Öl': it is not lower-case letters, digits and hyphens, 64 at the most. Use an id such as order-7294.",
        ),
        (("show", "none"), 2, "No task tsk_none is known to this bus. `interlock tasks` lists those that are."),
        (("show", "none", "--json"), 2, "No task tsk_none is known to this bus. `interlock tasks` lists those that are."),
        (("kill", "none"), 2, "No task tsk_none is known to this bus. `interlock tasks` lists those that are."),
        (("approve", "itm_none"), 2, "Nothing called 'itm_none' waits in the inbox. `interlock inbox` lists what does."),
        (("deny", "itm_none"), 2, "Nothing called 'itm_none' waits in the inbox. `interlock inbox` lists what does."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_no_is_one_sentence(shell: Shell, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = shell(*words)
    assert (done.stderr, done.exit_code, done.stdout) == (f"{sentence}\n", code, "")


def test_another_request_under_the_same_id(shell: Shell) -> None:
    shell.submit("echo", '{"number": 5}', "--id", "five")
    done = shell("submit", "echo", '{"number": 6}', "--id", "five")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "Task tsk_five already exists with another request or for another tenant. "
        "The first one stands; submit under another id to start a second task.\n"
    )


def test_scale_names_the_agents_that_there_are(shell: Shell) -> None:
    done = shell("scale", "clerc", "2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("No agent is called 'clerc'. This bus runs: clerk")
    # This bus has no model, so no pool of gateways.
    assert shell("scale", "models", "2").stderr.startswith("No agent is called 'models'. This bus runs: clerk")


# --- what is shown ---------------------------------------------------------------------------------------------------------------


def test_tasks_lists_the_newest_first(shell: Shell) -> None:
    for number in (1, 2):
        shell.bus.task(shell.submit("echo", f'{{"number": {number}}}', "--id", f"list-{number}")).outcome(timeout=10)
    head, newest, before = shell.lines("tasks", "--limit", "2")
    assert head.split() == ["task", "type", "tenant", "state", "accepted", "reason"]
    assert re.fullmatch(r"tsk_list-2  echo  default  success  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", newest)
    assert before.startswith("tsk_list-1")
    (row,) = json.loads(shell("tasks", "--limit", "1", "--json").stdout)
    assert (row["task"], row["state"], row["outcome"]) == ("tsk_list-2", "ended", "success")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["ended_at"])
    assert shell.lines("tasks", "--state", "diverged") == ["No task is diverged."]


def test_show_tells_the_story(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 7}', "--id", "seven")
    shell.bus.task(task).outcome(timeout=10)
    lines = shell.lines("show", "seven")
    assert lines[0] == "tsk_seven  echo  success"
    assert re.fullmatch(r"  began \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, took \d+\.\d{3} s", lines[1])
    assert '  result (order.done 1.0.0): {"said": "order 7 done"}' in lines
    did = [re.sub(r"^ *\d+\.\d{3} s  ", "", line) for line in lines[lines.index("") + 1 :]]
    assert [line.split(maxsplit=1)[1] for line in did] == [
        "submitted echo with order.request 1.0.0",
        "asked clerk",
        "replied",
        "task ended: success",
    ]


def test_show_json_is_the_run_record(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 8}', "--id", "eight")
    shell.bus.task(task).outcome(timeout=10)
    said = json.loads(shell("show", task, "--json").stdout)
    assert RunRecord.model_validate(said) == shell.bus.task(task).record()
    assert list(said) == list(RunRecord.model_fields)


def test_what_a_model_wrote_moves_no_cursor(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 9, "note": "fail"}', "--id", "hostile")
    shell.bus.task(task).outcome(timeout=10)
    assert any(line.startswith("  error: ") and SHOWN in line for line in shell.lines("show", task))
    for words in (("show", task), ("show", task, "--json"), ("tasks",), ("tasks", "--json")):
        assert not {"\x1b", "\u202e"} & set(shell(*words).stdout)


def test_status_and_scale(shell: Shell) -> None:
    assert shell.lines("scale", "clerk", "2") == ["clerk is to have 2 replicas."]
    assert shell.lines("scale", "clerk", "1") == ["clerk is to have 1 replica."]
    assert shell.lines("scale", "runners", "2") == ["runners is to have 2 members."]
    assert shell.lines("scale", "runners", "auto") == ["runners is to follow its load."]
    first, head, *pools = shell.lines("status")
    assert re.fullmatch(r"Epoch 1: \d+ live tasks, \d+ of them waiting for a human, \d+ parked; \d+ messages at work\.", first)
    assert head.split() == ["pool", "members", "wanted", "load", "queue"]
    assert {line.split()[0]: re.split(r" {2,}", line)[2] for line in pools} == {"clerk": "1 (pinned)", "runners": "2 (1 to 4)"}
    assert json.loads(shell("status", "--json").stdout)["epoch"] == 1


# --- people -----------------------------------------------------------------------------------------------------------------------


def test_an_approval_shows_exactly_the_act_and_a_yes_lets_it_happen(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 10, "note": "pay"}', "--id", "pay")
    item = shell.asked(task)
    shown = [line for line in shell.lines("inbox") if line]
    head, text, *arguments, how = shown
    assert re.fullmatch(rf"{item}  approval  for operators  of task tsk_pay, expires \d{{4}}-.* UTC", head)
    assert text == "  clerk wants to call transfer on bank. Transfer money."
    assert arguments == ["    amount = 10", '    to = "[bold]red[/bold] \\u001b[31m\\u202egnp"']
    assert how == f"  interlock approve {item}   or   interlock deny {item}"
    assert set(shown) <= set(shell.lines("show", task)), "the task shows what it waits for"
    story = shell.lines("show", task)
    assert (story[0], story[1][-12:]) == ("tsk_pay  echo  waiting for a human", ", still live")
    assert {"  writes/bank: 0 of 1", "  seconds: under way of 60"} <= set(story)
    (row,) = json.loads(shell("inbox", "--json").stdout)
    assert (row["item"], row["details"]["arguments"]) == (item, {"amount": 10, "to": HOSTILE})
    assert shell.lines("tasks", "--state", "waiting")[1].startswith("tsk_pay  echo  default  waiting")

    assert shell.lines("approve", item, "--note", "fine") == [f"{item} approved."]
    assert shell.bus.task(task).outcome(timeout=10) == "success"
    assert shell.lines("inbox") == ["Nothing waits for a human."]
    assert "  writes/bank: 1 of 1" in shell.lines("show", task)
    again = shell("deny", item)
    assert (again.exit_code, again.stdout) == (2, "")


def test_a_denied_act_rejects_its_task(shell: Shell) -> None:
    task = shell.submit("echo", '{"number": 11, "note": "pay"}', "--id", "denied")
    item = shell.asked(task)
    assert shell.lines("deny", item, "--note", "too much") == [f"{item} denied."]
    assert shell.bus.task(task).outcome(timeout=10) == "rejected"
    assert any(line.startswith("  error: ") and "too much" in line for line in shell.lines("show", task))


def test_a_question_and_its_answer(shell: Shell) -> None:
    task = shell.submit("question", '{"number": 12}')
    item = shell.asked(task)
    assert f"  Shall it be 12? {SHOWN}" in shell.lines("inbox")
    assert shell.lines("approve", item, "--note", "do") == [f"{item} approved."]
    assert shell.bus.task(task).result(timeout=10) == {"said": "True: do"}


def test_the_inbox_comes_by_pages_of_those_who_wait_longest(shell: Shell) -> None:
    items = [shell.asked(shell.submit("question", '{"number": 13}', "--id", name)) for name in ("first", "second", "third")]
    waiting = [item["item"] for item in shell.bus.inbox.list()]
    assert waiting[-3:] == items
    assert shell.bus.inbox.count() == len(waiting)
    before = waiting[-4:-3]
    page = shell("inbox", "--limit", "2", *(word for item in before for word in ("--after", item)))
    assert [line.split()[0] for line in page.stdout.splitlines() if line.startswith("itm_")] == items[:2]
    assert page.stderr == f"1 more: `interlock inbox --after {items[1]}` shows what comes next.\n"
    (last,) = json.loads(shell("inbox", "--json", "--limit", "2", "--after", items[1]).stdout)
    assert last["item"] == items[2]
    assert shell.lines("inbox", "--limit", "1", "--after", items[2]) == ["Nothing that came after it waits for a human."]
    assert [item["item"] for item in shell.bus.inbox.list(task="tsk_second")] == [items[1]]
    unknown = shell("inbox", "--after", "itm_none")
    assert (unknown.exit_code, unknown.stderr) == (2, "Nothing called 'itm_none' waits in the inbox. `interlock inbox` lists what does.\n")
    for item in items:
        shell.lines("deny", item)


@pytest.mark.parametrize("limit", [0, -1, 10_001, 2**70])
def test_one_answer_has_no_more_rows_than_a_page(shell: Shell, limit: int) -> None:
    for ask in (shell.bus.tasks, shell.bus.inbox.list, shell.bus.dead.list):
        with pytest.raises(BadDeclaration, match=rf"limit {limit}: one answer has 1 to 10,000 rows. Ask for the rest page by page"):
            ask(limit=limit)  # type: ignore[operator]


def test_nothing_ended_before_time_began(shell: Shell) -> None:
    for days in ("1000000", "9" * 30):
        assert shell.lines("ledger", "prune", "--days", days) == [
            "Nothing is kept of model calls of tasks that ended before 1970-01-01T00:00:00.000000Z."
        ]


# --- messages into a running task --------------------------------------------------------------------------------------------------


def test_a_message_is_sent_into_a_running_task(shell: Shell) -> None:
    task = shell.submit("changeable", '{"number": 14}', "--id", "open")
    refused = shell("send", "open", "order.done", '{"said": "no"}')
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Workflow changeable does not receive order.done 1.0.0. It receives: order.request 1.0.0." in refused.stderr
    assert shell.lines("send", "open", "order.request", '{"number": 15}', "--id", "more") == ["msg_more"]
    assert shell.bus.task(task).result(timeout=10) == {"said": "order 15 instead of 14"}
    again = json.loads(shell("send", "open", "order.request", '{"number": 15}', "--id", "more", "--json").stdout)
    assert again == {"task": "tsk_open", "message": "msg_more"}
    late = shell("send", "open", "order.request", '{"number": 16}', "--version", "1.0.0")
    assert (late.exit_code, late.stdout) == (1, "")
    assert "tsk_open has ended already, as success: nobody is there to receive this order.request." in late.stderr
    assert any("sent order.request 1.0.0 into the task" in line for line in shell.lines("show", "open"))


# --- the kill ----------------------------------------------------------------------------------------------------------------------


def test_the_switch_is_tried_stands_in_status_and_is_opened(shell: Shell) -> None:
    lines = shell.lines("drill", "--tasks", "3")
    assert lines[0].startswith("task type interlock.drill (stp_")
    assert lines[0].endswith(") stopped")
    assert "  3 tasks ended" in lines
    assert json.loads(shell("kill", "--type", "interlock.drill", "--why", HOSTILE, "--json").stdout)["verified"]
    (told,) = [line for line in shell.lines("status") if line.startswith("STOPPED: ")]
    assert told.endswith("Opens with `interlock resume --type interlock.drill`.")
    refused = shell("submit", "interlock.drill", "{}")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "`interlock resume --type interlock.drill` opens it again." in refused.stderr
    assert shell.lines("resume", "--type", "interlock.drill") == ["interlock.drill is open again."]
    assert not [line for line in shell.lines("status") if line.startswith("STOPPED: ")]
    for words in (["kill"], ["kill", "x", "--everything"], ["resume", "--type", "a", "--agent", "b"]):
        assert shell(*words).exit_code == 2


def test_a_kill_prints_its_receipt_and_show_keeps_it(shell: Shell) -> None:
    task = shell.submit("question", '{"number": 13}', "--id", "doomed")
    shell.asked(task)
    lines = shell.lines("kill", "doomed", "--why", HOSTILE)
    assert lines[0] == "tsk_doomed stopped"
    assert lines[1].endswith(f": {SHOWN}")
    assert shell.bus.task(task).outcome(timeout=10) == "killed"
    again = json.loads(shell("kill", "doomed", "--json").stdout)
    assert (again["task"], again["why"], again["verified"]) == ("tsk_doomed", HOSTILE, True)
    while not any(entry.kind == "receipt.recorded" for entry in shell.bus.task(task).entries()):
        pass  # the supervisor tells the ledger of it after whoever asked for the kill
    shown = shell.lines("show", task)
    assert shown[0] == "tsk_doomed  question  killed"
    assert shown[shown.index("Receipt:") + 1 :] == lines
