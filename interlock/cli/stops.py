"""Commands that stop: a task, all that one name stands for, or everything; and the one that opens again what they have closed."""

from typing import TYPE_CHECKING, Any

import click

from interlock.cli import output
from interlock.cli.connection import on_bus
from interlock.cli.group import REFUSED

if TYPE_CHECKING:
    from interlock.bus import Bus

why_option = click.option(
    "--why", default="asked on the command line", show_default=True, metavar="TEXT", help="The reason, for the record."
)


@click.command()
@click.argument("task_id", metavar="[TASK]", required=False)
@click.option("--agent", metavar="AGENT", help="Everybody of this agent, and let it get nothing more.")
@click.option("--replica", metavar="REPLICA", help="This one process, as `interlock status --json` names it; another takes its place.")
@click.option("--type", metavar="TYPE", help="All tasks of this type, and let none in.")
@click.option("--tenant", metavar="TENANT", help="All tasks of this tenant, and let none in.")
@click.option("--everything", is_flag=True, help="All tasks, and let none in.")
@click.option("--no-undo", is_flag=True, help="Leave what the tasks did as it is.")
@why_option
@output.json_option
@on_bus
def kill(bus: "Bus", /, task_id: str | None, everything: bool, no_undo: bool, why: str, as_json: bool, **named: str | None) -> int:
    """Stop a task for good, everywhere; or all that an option names.

    Prints the receipt: what was stopped, when, and how that was verified. It works when agents, tools or the orchestrator hang; what does
    not let go is ended by force, with all its child processes. Killing a task again prints the first receipt. The exit code is 1 where
    not everything could be verified to have stopped.

    With --type, --tenant or --everything each live task is killed and no such task is let in. With --agent what the agent works on has
    failed, and its workflows hear so. Both last, also over restarts, until `interlock resume`. A replica is replaced and its work goes on
    elsewhere.

    What the killed tasks did is undone as their workflows registered it, last first, by tasks of their own; the receipt names them.
    Such a one is killed by its own name.

    \b
    Examples:
      interlock kill tsk_order-7294 --why "wrong order"
      interlock kill --everything --why "it writes to the wrong database"
    """
    if [task_id, *named.values(), everything or None].count(None) != 5:
        raise click.UsageError("Name a task, or give one of --agent, --replica, --type, --tenant and --everything.")
    if task_id is not None:
        wire = bus.task(task_id).kill(why, undo=not no_undo)
    else:
        wire = bus.kill(**named, everything=everything, why=why, undo=not no_undo)
    return _print(wire, as_json)


def _print(wire: dict[str, Any], as_json: bool) -> int:
    from interlock.actors.supervisor.receipt import text
    from interlock.schemas.record import Receipt

    if as_json:
        output.as_json(wire)
    else:
        output.lines(text(Receipt(**wire)))
    return 0 if wire["verified"] else REFUSED


@click.command()
@click.option("--agent", metavar="AGENT", help="Only this agent.")
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option("--tenant", metavar="TENANT", help="Only tasks of this tenant.")
@why_option
@output.json_option
@on_bus
def resume(bus: "Bus", agent: str | None, task_type: str | None, tenant: str | None, why: str, as_json: bool) -> None:
    """Open again what `interlock kill` has closed: all of it, or what an option names.

    From then on tasks are let in and agents get work as before. What was killed stays killed: submit it again under another id.
    """
    if [agent, task_type, tenant].count(None) < 2:
        raise click.UsageError("Give one of --agent, --type and --tenant, or none of them for all that is closed.")
    wire = bus.resume(agent=agent, type=task_type, tenant=tenant, why=why)
    stands = bus.status()["stops"]
    if as_json:
        output.as_json({"order": wire["order"], "by": wire["by"], "stops": stands})
        return
    output.lines(f"{agent or task_type or tenant or 'Everything'} is open again.")
    for line in closed(stands):
        output.lines(line)


@click.command()
@click.option("--tasks", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N", help="So many synthetic tasks.")
@output.json_option
@on_bus
def drill(bus: "Bus", tasks: int, as_json: bool) -> int:
    """Try the switch on the running bus, with synthetic tasks, and print the receipt.

    Starts N tasks of the type interlock.drill, which only wait, stops that type as `interlock kill --type` does, and opens it again. Every
    process is asked and looked at as in earnest; no real task is touched. The exit code is 1 where not everything could be verified.
    """
    return _print(bus.drill(tasks=tasks), as_json)


def closed(stops: list[dict[str, Any]]) -> list[str]:
    """What is stopped, who did it and how it opens."""
    from interlock.schemas.stops import Selection

    return [
        f"STOPPED: {stop['selection']}, by {stop['by']} since {stop['since']}: {stop['why']}. "
        f"Opens with `interlock resume{Selection(stop['scope'], stop['name']).option}`."
        for stop in stops
    ]
