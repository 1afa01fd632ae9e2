"""Commands about tasks: submit one, list them, show one, send it a message, erase one."""

import sys
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from interlock.cli import output
from interlock.cli.connection import on_bus
from interlock.cli.group import REFUSED
from interlock.cli.inputs import JsonText, Limits
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.turns import PRIORITIES, Priority

if TYPE_CHECKING:
    from interlock.bus import Bus


class Asked(TypedDict):
    """What a submit may name beside its request."""

    id: str | None
    limits: dict[str, str] | None
    tenant: str
    priority: Priority | None


STATES = ("running", "waiting", "diverged", "ended")


@click.command()
@click.argument("task_type", metavar="TYPE")
@click.argument("request", metavar="JSON", type=JsonText())
@click.option("--id", metavar="ID", help="An id of your own, such as order-7294. The same id again is the same task.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result.")
@click.option("--budget", "limits", type=Limits(), help="Lower the workflow's budget, as in tokens=5000,usd=0.10.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, metavar="NAME", help="On whose account it runs.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="What goes first where tasks wait; default: the workflow's.")
@output.json_option
@on_bus
def submit(bus: "Bus", task_type: str, request: bytes, wait: bool, as_json: bool, **asked: Unpack[Asked]) -> None:
    """Start a task of type TYPE with the request JSON.

    JSON is the request itself, @FILE to read it from a file, or - to read it from the standard input. The task is accepted and durable
    when its id is printed. With --wait the result is printed once it is there; interrupting that (Ctrl-C) leaves the task running.

    \b
    Examples:
      interlock submit invoice_generation '{"order_id": "7294"}' --id order-7294
      interlock submit invoice_generation @request.json --budget tokens=5000,usd=0.10 --wait
    """
    from interlock.schemas.errors import TaskFailed

    task = bus.submit_json(task_type, request, **asked)
    if not wait:
        if as_json:
            output.as_json({"task": task.id})
        else:
            output.lines(task.id)
        return
    if sys.stderr.isatty():
        click.echo(f"{task.id} accepted; waiting for its end.", err=True)
    try:
        result = task.result()
    except TaskFailed as failed:
        if as_json:
            output.as_json({"task": task.id, "outcome": failed.outcome, "reason": failed.reason, "result": None})
        raise
    output.as_json({"task": task.id, "outcome": "success", "reason": "", "result": result} if as_json else result)


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@output.limit_option
@output.json_option
@on_bus
def tasks(bus: "Bus", state: str | None, limit: int, as_json: bool) -> None:
    """List tasks, the newest first.

    A task is running, waiting (for a human), diverged (its workflow's code no longer does what it did; deploy code that does) or has
    ended with an outcome: success, failed, rejected, killed, budget_exceeded, expired.
    """
    rows = bus.tasks(limit=limit, state=state)
    if as_json:
        output.as_json([output.wire(row) for row in rows])
    elif not rows:
        click.echo("No tasks." if state is None else f"No task is {state}.")
    else:
        shown = [
            (row["task"], row["type"], row["tenant"], row["outcome"] or row["state"], output.when(row["accepted_at"]), row["reason"])
            for row in rows
        ]
        output.table(("task", "type", "tenant", "state", "accepted", "reason"), shown)


@click.command()
@click.argument("task_id", metavar="TASK")
@output.json_option
@on_bus
def show(bus: "Bus", task_id: str, as_json: bool) -> None:
    """Show a task: how it ended, who did what when, at what cost.

    Also what of it waits for a human, what it registered to be undone, and the receipt if it was killed. --json prints its run record,
    which satisfies the contract interlock.run_record.
    """
    from interlock.cli.story import story

    task = bus.task(task_id)
    if as_json:
        output.as_json(task.record().model_dump(mode="json"))
        return
    items = bus.inbox.list(task=task.id)
    for line in story(task.record(), task.entries(), items, task.undos()):
        output.lines(line)


@click.command()
@click.argument("task_id", metavar="TASK")
@click.argument("contract", metavar="CONTRACT")
@click.argument("message", metavar="JSON", type=JsonText())
@click.option("--id", "own_id", metavar="ID", help="An id of your own, such as amend-1. The same id again is the same message.")
@click.option("--version", default="", metavar="VERSION", help="The contract's version. [default: the one that the workflow declares]")
@output.json_option
@on_bus
def send(bus: "Bus", task_id: str, contract: str, message: bytes, own_id: str | None, version: str, as_json: bool) -> None:
    """Send a message of CONTRACT into the running task TASK, for its workflow to receive.

    JSON is the message itself, @FILE to read it from a file, or - to read it from the standard input. The message is durable when its id is
    printed, and is kept until the workflow receives it. Refused is what the workflow does not declare with receives=.

    \b
    Example:
      interlock send tsk_order-7294 order.amended '{"quantity": 3}' --id amend-1
    """
    task = bus.task(task_id)
    id = task.send_json(contract, message, version=version, id=own_id)
    if as_json:
        output.as_json({"task": task.id, "message": id})
    else:
        output.lines(id)


@click.command()
@click.argument("task_id", metavar="TASK")
@click.option("--why", default="asked on the command line", show_default=True, metavar="TEXT", help="The reason, for the record.")
@output.json_option
@on_bus
def erase(bus: "Bus", task_id: str, why: str, as_json: bool) -> int:
    """Destroy what a task said, for good; a live task is killed first.

    Messages, arguments, results, conversations with models, questions and answers go, with the key that they are sealed under. That the
    task was there, how it ended, what it did when and at what cost stays, and `interlock audit verify` goes on proving it. What it has
    done under a key of the whole bus is not done again: who asks is told that it is done and that its result was erased.

    Not reached are backups and bundles that were made before, and entries that an Interlock wrote which did not seal yet: the exit code is
    1 then, as it is where not all of a kill could be verified.
    """
    from interlock.actors.supervisor.receipt import text
    from interlock.schemas.record import Receipt

    done = bus.task(task_id).erase(why)
    receipt = done["receipt"]
    if as_json:
        output.as_json(done)
    else:
        if receipt is not None:
            output.lines(text(Receipt(**receipt)))
        output.lines(f"{done['task']}: what it said was erased at {done['at']} by {done['by']}. Backups from before still have it.")
        if done["plain"]:
            output.lines(f"{done['plain']} of its entries were written before Interlock sealed what tasks say. They stay readable.")
        if done["traces"]:
            output.lines("A reader of the ledger keeps traces of it in the database's files for now. They go when it has read.")
    return REFUSED if done["plain"] or (receipt is not None and not receipt["verified"]) else 0
