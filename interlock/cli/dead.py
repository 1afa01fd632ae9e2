"""Commands for dead letters: messages on which replica after replica has ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from interlock.cli import output
from interlock.cli.connection import on_bus

if TYPE_CHECKING:
    from interlock.bus import Bus


@click.group()
def dead() -> None:
    """Look at messages that ended replica after replica, and decide about them.

    Such a message is kept whole and handed to nobody. Its task waits until somebody retries or drops it, or until the escalation time of
    its workflow is over: then the task has expired.
    """


@dead.command("list")
@click.option("--all", "every", is_flag=True, help="Also those that were decided, and those of tasks that have ended.")
@output.limit_option
@output.after_option
@output.json_option
@on_bus
def list_letters(bus: "Bus", every: bool, limit: int, after: str, as_json: bool) -> None:
    """List the dead letters that wait for a decision, whoever waits longest first."""
    letters = bus.dead.list(open_only=not every, limit=limit, after=after)
    if as_json:
        output.as_json([output.wire(letter) for letter in letters])
    elif letters:
        rows = [(one["item"], one["task"], output.when(one["asked_at"]), one["decision"] or "waits", one["text"]) for one in letters]
        output.table(("letter", "task", "since", "state", "what"), rows)
    else:
        click.echo(_NONE[every, bool(after)])
    if len(letters) == limit:
        more = bus.dead.count(open_only=not every, after=letters[-1]["item"])
        output.more(letters, more, "interlock dead list" + (" --all" if every else ""))


_NONE = {
    (False, False): "No dead letter waits.",
    (False, True): "No dead letter that came after it waits.",
    (True, False): "There are no dead letters.",
    (True, True): "No dead letter came after it.",
}
"""What is said of an empty list: of all of them or those that wait, of the first page or a later one."""


@dead.command()
@click.argument("item", metavar="ID")
@output.json_option
@on_bus
def show(bus: "Bus", item: str, as_json: bool) -> None:
    """Show the dead letter ID whole: the message, and how each replica was lost."""
    letter = bus.dead.show(item)
    if as_json:
        output.as_json(output.wire(letter))
        return
    output.lines(f"{letter['item']}  of task {letter['task']}  {letter['decision'] or 'waits, until ' + output.when(letter['expires'])}")
    output.lines(f"  {output.one_line(letter['text'])}")
    for number, why in enumerate(letter["losses"], 1):
        output.lines(f"  {number}. {output.one_line(why)}")
    for name, value in letter["message"].items():
        output.lines(f"  {name} = {output.value(value, None)}")
    if not letter["decision"]:
        output.lines(f"  interlock dead retry {letter['item']}   or   interlock dead drop {letter['item']}")


def _deciding(said: str) -> Callable[[Callable[["Bus", str, str], None]], click.Command]:
    """Makes a command of what it does with the letter ID and a note; `said` is what has become of the letter then."""

    def make(act: Callable[["Bus", str, str], None]) -> click.Command:
        @dead.command(act.__name__, help=act.__doc__)
        @click.argument("item", metavar="ID")
        @click.option("--note", default="", metavar="TEXT", help="A remark, for the record.")
        @output.json_option
        @on_bus
        def decide(bus: "Bus", item: str, note: str, as_json: bool) -> None:
            act(bus, item, note)
            if as_json:
                output.as_json({"item": item, "decision": said})
            else:
                output.lines(f"{item} {said}.")

        return decide

    return make


@_deciding("retried")
def retry(bus: "Bus", item: str, note: str) -> None:
    """Hand the dead letter ID out again; what was recorded of it is not done twice."""
    bus.dead.retry(item, note)


@_deciding("dropped")
def drop(bus: "Bus", item: str, note: str) -> None:
    """Give the dead letter ID up: its workflow hears that the ask has failed, and may go another way."""
    bus.dead.drop(item, note)
