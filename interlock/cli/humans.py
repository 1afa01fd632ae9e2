"""Commands for people who decide: the inbox, and yes or no to what waits in it."""

from typing import TYPE_CHECKING

import click

from interlock.cli import output
from interlock.cli.connection import on_bus

if TYPE_CHECKING:
    from interlock.bus import Bus

_note = click.option("--note", default="", metavar="TEXT", help="A remark; a workflow that asked a question is told it.")


@click.command()
@output.limit_option
@output.after_option
@output.json_option
@on_bus
def inbox(bus: "Bus", limit: int, after: str, as_json: bool) -> None:
    """Show what waits for a human, whoever waits longest first.

    An approval is about exactly the one call that is shown, with these arguments. A question is a workflow's own. An unknown asks whether
    something took effect whose process ended before it could say: look there, approve if it happened, deny if it did not. A diverged task's
    code no longer asks what it asked before: both sides are shown and nothing was sent; deploy code that asks what is recorded and approve,
    or deny to end the task.
    """
    from interlock.cli.story import item_lines

    items = bus.inbox.list(limit=limit, after=after)
    if as_json:
        output.as_json([output.wire(item) for item in items])
    elif not items:
        click.echo("Nothing waits for a human." if not after else "Nothing that came after it waits for a human.")
    else:
        for item in items:
            for line in item_lines(item):
                output.lines(line)
    if len(items) == limit:
        output.more(items, bus.inbox.count(after=items[-1]["item"]), "interlock inbox")


@click.command()
@click.argument("item", metavar="ID")
@_note
@on_bus
def approve(bus: "Bus", item: str, note: str) -> None:
    """Say yes to what waits in the inbox as ID; its task goes on. A decision never changes."""
    bus.inbox.approve(item, note)
    output.lines(f"{item} approved.")


@click.command()
@click.argument("item", metavar="ID")
@_note
@on_bus
def deny(bus: "Bus", item: str, note: str) -> None:
    """Say no to what waits in the inbox as ID. A denied call ends its task as rejected; a workflow that asked hears the no."""
    bus.inbox.deny(item, note)
    output.lines(f"{item} denied.")
