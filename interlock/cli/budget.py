"""The command about limits: what a task or a scope used of what it may, and an operator's word about that."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from interlock.cli import output
from interlock.cli.connection import on_bus
from interlock.cli.inputs import Change

if TYPE_CHECKING:
    from interlock.bus import Bus

_BAR = 20
_FULL, _HELD, _LEFT = "#", "+", "."


@click.command()
@click.argument("what", metavar="[TASK | SCOPE]", required=False)
@click.argument("changes", metavar="[METER=AMOUNT]...", nargs=-1, type=Change())
@click.option("--per", type=click.Choice(("hour", "day", "month")), help="Of a scope: its limit in each hour, day or month (UTC).")
@click.option("--why", default="asked on the command line", show_default=True, metavar="TEXT", help="The reason, for the record.")
@output.json_option
@on_bus
def budget(bus: "Bus", what: str | None, changes: Sequence[tuple[str, str | None]], per: str | None, why: str, as_json: bool) -> None:
    """Show what was used of limits, what is held for work under way (+), and what is left; raise or lower them.

    TASK is a task's id; SCOPE is bus, type:NAME or tenant:NAME, with * for each. Without either all scopes are shown that are limited.
    METER is input_tokens, output_tokens, tokens, steps, messages, seconds, working_seconds, usd or writes/SYSTEM; =none lifts a limit. Who
    changed a limit and why is recorded.

    \b
    Examples:
      interlock budget tsk_order-7294
      interlock budget tsk_order-7294 usd=1.00 --why "a long document"
      interlock budget tenant:acme usd=100 --per day --why "paid for more"
    """
    from interlock.schemas.limits import is_scope

    if what is not None and not is_scope(what):
        if per is not None:
            raise click.UsageError("--per belongs to a scope, and a task has one budget for all its time")
        task = bus.task(what)
        if changes:
            task.change_budget(dict(changes), why)
        found = task.budget()
        if as_json:
            output.as_json(found)
        else:
            state = found["outcome"] or "live"
            output.lines(f"{found['task']}  {found['type']}  for {found['tenant']}  {state}")
            output.table(("meter", "used", "held", "left", "limit", ""), [_row(meter, one) for meter, one in found["meters"].items()])
        return
    if what is not None and changes:
        bus.limit(what, dict(changes), why, per=per or "")
    scopes = [row for row in bus.limits() if (what is None or row["scope"] == what) and (per is None or row["per"] == per)]
    if as_json:
        output.as_json(scopes)
    elif not scopes:
        click.echo("No scope is limited." if what is None else f"{what} has no limit.")
    else:
        rows = [(row["scope"], row["window"] or "ever", *_row(meter, one)) for row in scopes for meter, one in row["meters"].items()]
        output.table(("scope", "in", "meter", "used", "held", "left", "limit", ""), [row for row in rows if row[-2] != ""])


def _row(meter: str, one: dict[str, Any]) -> tuple[str, ...]:
    """A meter as a line of a table; the bar shows used and held of the limit."""
    if one["limit"] is None:
        return meter, _number(one["used"]), _number(one["reserved"]), "", "", ""
    return (
        meter,
        *(_number(one[name]) for name in ("used", "reserved", "left", "limit")),
        _bar(Decimal(one["used"]), Decimal(one["reserved"]), Decimal(one["limit"])),
    )


def _number(amount: int | str) -> str:
    return f"{Decimal(amount):,}"


def _bar(used: Decimal, held: Decimal, limit: Decimal) -> str:
    share = Decimal(_BAR) / limit if limit else Decimal(_BAR)
    full = min(_BAR, int(used * share)) if limit else _BAR
    some = min(_BAR - full, int((used + held) * share) - full) if limit else 0
    percent = f"{min(used * 100 / limit, Decimal(999)):.0f} %" if limit else "100 %"
    return f"{_FULL * full}{_HELD * some}{_LEFT * (_BAR - full - some)} {percent}"
