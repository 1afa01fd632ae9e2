"""Commands about contracts. Most need no bus: they work on files and apps, as a build does before anything is deployed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli import output
from interlock.cli.connection import on_bus
from interlock.cli.group import REFUSED, USAGE
from interlock.cli.inputs import SchemaFile

if TYPE_CHECKING:
    from interlock.bus import Bus
    from interlock.schemas.registry.verdict import Mode, Verdict

_MODES = ("none", "backward", "forward", "full", "backward_transitive", "forward_transitive", "full_transitive")
_DIALECTS = {"7": 7, "2019-09": 2019, "2020-12": 2020}

dialect_option = click.option(
    "--dialect", type=click.Choice(list(_DIALECTS)), default="2020-12", show_default=True, help="Of a schema without $schema."
)


@click.group()
def contracts() -> None:
    """What messages look like, version by version, and what a change of it breaks."""


@contracts.command(name="list")
@output.json_option
@on_bus
def list_(bus: "Bus", /, as_json: bool) -> None:
    """All registered contracts with their versions."""
    found: dict[str, list[str]] = {}
    for row in bus.contracts.list():
        found.setdefault(row["contract"], []).append(row["version"])
    if as_json:
        output.as_json(found)
        return
    output.table(("CONTRACT", "VERSIONS"), [(name, " ".join(versions)) for name, versions in found.items()])


@contracts.command()
@click.argument("contract", metavar="CONTRACT")
@click.argument("version", metavar="[VERSION]", default="")
@on_bus
def show(bus: "Bus", /, contract: str, version: str) -> None:
    """The JSON Schema of a contract, as it is registered; of its highest version where none is named.

    \b
    Example:
      interlock contracts show invoice.request > invoice.request.json
    """
    output.as_json(bus.contracts.get(contract, version)["schema"])


@contracts.command()
@click.argument("schema", metavar="FILE", type=SchemaFile())
@click.option("--contract", metavar="CONTRACT", required=True, help="Its dotted name, as in invoice.request.")
@click.option("--version", metavar="VERSION", required=True, help="Its version, as in 1.1.0.")
@output.json_option
@on_bus
def register(bus: "Bus", /, schema: Any, contract: str, version: str, as_json: bool) -> None:
    """Register a version of a contract that no class of an app declares.

    It is refused where it breaks what the versions of its major promise, with a message that breaks, or where its number is too small for
    what has changed. Registering the same again does nothing.

    \b
    Example:
      interlock contracts register order.json --contract shop.order --version 1.1.0
    """
    new = bus.contracts.register_schema(contract, version, schema)
    if as_json:
        output.as_json({"contract": contract, "version": version, "new": new})
        return
    output.lines(f"{contract} {version} is registered." if new else f"{contract} {version} was registered already.")


@contracts.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), default="contracts", show_default=True, help="A folder.")
@output.json_option
def freeze(target: str, folder: Path, as_json: bool) -> None:
    """Write the JSON Schema of every contract of an app into a file of its own: CONTRACT-VERSION.json.

    What is frozen already stays, and must be the same: a class that was changed under its old version is refused, so a build that freezes
    finds it before a bus does.

    \b
    Example:
      interlock contracts freeze examples/invoicing/app.py:app --to contracts
    """
    from interlock.loading import load_app
    from interlock.schemas.registry.frozen import freeze as frozen

    written = frozen(load_app(target).spec().schemas, folder)
    if as_json:
        output.as_json({"written": [str(path) for path in written]})
        return
    for path in written:
        output.lines(f"{path} is new.")
    if not written:
        output.lines(f"Nothing is new in {folder}.")


@contracts.command()
@click.argument("target", metavar="MODULE:APP")
def asyncapi(target: str) -> None:
    """An AsyncAPI 3 document of an app: every message, and which agent or workflow takes it and answers with what.

    \b
    Example:
      interlock contracts asyncapi examples/invoicing/app.py:app > asyncapi.json
    """
    from interlock.loading import load_app
    from interlock.schemas.registry.asyncapi import asyncapi as document

    output.as_json(document(load_app(target).spec()))


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
