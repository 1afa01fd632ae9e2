"""Commands about contracts. `check` and `diff` need no bus: they compare files, as a build does before anything is deployed."""

from typing import TYPE_CHECKING, Any

import click

from interlock.cli import output
from interlock.cli.group import REFUSED, USAGE
from interlock.cli.inputs import SchemaFile

if TYPE_CHECKING:
    from interlock.schemas.registry.verdict import Mode, Verdict

_MODES = ("none", "backward", "forward", "full", "backward_transitive", "forward_transitive", "full_transitive")
_DIALECTS = {"7": 7, "2019-09": 2019, "2020-12": 2020}

dialect_option = click.option(
    "--dialect", type=click.Choice(list(_DIALECTS)), default="2020-12", show_default=True, help="Of a schema without $schema."
)


@click.group()
def contracts() -> None:
    """Compare versions of a contract."""


@contracts.command()
@click.argument("new", metavar="FILE", type=SchemaFile())
@click.option("--old", metavar="FILE", type=SchemaFile(), multiple=True, required=True, help="The version before; several: oldest first.")
@click.option("--mode", type=click.Choice(_MODES), default="backward", show_default=True, help="Who must understand whom.")
@click.option("--formats", is_flag=True, help="`format` is asserted, not an annotation.")
@click.option("--producer-closed", is_flag=True, help="Who writes sends only properties that its schema names.")
@dialect_option
@output.json_option
def check(new: Any, old: tuple[Any, ...], mode: "Mode", formats: bool, producer_closed: bool, dialect: str, as_json: bool) -> int:
    """Is the JSON Schema in FILE compatible with the one before it?

    backward: it accepts every message that the old one accepts. forward: the old one accepts every message that it accepts. full: both.
    A transitive mode compares with every --old, any other with the last. A no shows a message that was accepted and no longer is.

    \b
    Exit codes: 0 compatible, proved; 1 incompatible; 2 not known, or bad input.

    \b
    Examples:
      interlock contracts check order.json --old order-1.0.0.json
      git show main:order.json | interlock contracts check order.json --old - --json
    """
    from interlock.schemas.registry.verdict import check as checked

    found = checked(list(old), new, mode, dialect=_DIALECTS[dialect], formats=formats, producer_closed=producer_closed)
    if as_json:
        output.as_json(_wire(found))
    else:
        _print(found)
    return {"compatible": 0, "incompatible": REFUSED, "unknown": USAGE}[found.verdict]


@contracts.command()
@click.argument("old", metavar="OLD", type=SchemaFile())
@click.argument("new", metavar="NEW", type=SchemaFile())
@dialect_option
@output.json_option
def diff(old: Any, new: Any, dialect: str, as_json: bool) -> int:
    """What changed between the JSON Schemas in two files, and the least version bump that says so honestly.

    \b
    Example:
      interlock contracts diff order-1.0.0.json order.json
    """
    from interlock.schemas.registry.verdict import check as checked

    found = checked(old, new, dialect=_DIALECTS[dialect])
    if as_json:
        output.as_json({key: value for key, value in _wire(found).items() if key in ("changes", "least_bump")})
        return 0
    _print_changes(found)
    return 0


def _print(found: "Verdict") -> None:
    click.echo(output.one_line(f"{found.verdict} ({found.mode})" + (f": {found.reason}." if found.reason else "")))
    if found.refusal:
        click.echo(f"message: {output.value(found.counterexample)}")
    for doubt in found.doubts:
        click.echo(output.one_line(f"unknown: {doubt.keyword} at {doubt.pointer}: {doubt.reason}; {doubt.remedy}."))
    _print_changes(found)


def _print_changes(found: "Verdict") -> None:
    if found.changes:
        output.table(("CHANGE", "WHERE", "WHAT"), [(change.kind, change.pointer, change.message) for change in found.changes])
    else:
        click.echo("Nothing changed.")
    click.echo(f"least bump: {found.least_bump}")


def _wire(found: "Verdict") -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "mode": found.mode,
        "least_bump": found.least_bump,
        "reason": found.reason,
        "refusal": found.refusal._asdict() if found.refusal else None,
        "doubts": [doubt._asdict() for doubt in found.doubts],
        "changes": [change._asdict() for change in found.changes],
    }
