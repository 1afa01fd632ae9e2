"""Commands that prove what the ledger says; they read its file and need no bus."""

from pathlib import Path

import click

from interlock.cli import output
from interlock.settings import home


@click.group()
def audit() -> None:
    """Prove what the ledger says."""


@audit.command()
@click.option("--ledger", type=click.Path(path_type=Path), metavar="PATH", help="The ledger's file. [default: ledger.db in INTERLOCK_HOME]")
@output.json_option
def verify(ledger: Path | None, as_json: bool) -> None:
    """Prove that the ledger is intact: no entry was changed, removed or moved, and all that is shown of tasks follows from the entries.

    It works beside a running bus and without one. The exit code is 1 where the ledger is damaged; the first bad entry is named.
    """
    from interlock.orchestrator.ledger.reader import Reader
    from interlock.schemas.errors import LedgerDamaged

    path = ledger or home() / "ledger.db"
    reader = Reader(path)
    try:
        number = reader.verify()
    except LedgerDamaged as damaged:
        if as_json:
            output.as_json({"intact": False, "ledger": str(path), "entry": damaged.seq, "problem": damaged.problem})
        raise
    finally:
        reader.close()
    if as_json:
        output.as_json({"intact": True, "ledger": str(path), "entries": number})
    else:
        click.echo(f"ledger intact: {number} entries")
