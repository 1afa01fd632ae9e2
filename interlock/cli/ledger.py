"""Commands that look after the ledger where it is kept; they need no bus."""

from pathlib import Path

import click

from interlock.cli import output
from interlock.settings import home, ledger_of


@click.group()
def ledger() -> None:
    """Back up, restore and measure the ledger."""


@ledger.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@output.json_option
def backup(file: Path, as_json: bool) -> None:
    """Write a backup of ledger and journal into FILE, verified, also while the bus runs.

    FILE has one format, whether the ledger is in a file or in PostgreSQL, and restores into either. It holds all that the ledger holds.
    """
    from interlock.backup import save

    done = save(ledger_of(home()), home(), file)
    if as_json:
        output.as_json(done)
    else:
        output.lines(f"{file}: {done['entries']} entries, intact, the last one {done['head'][:16]}; {done['journal']} rows of the journal.")


@ledger.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@output.json_option
def restore(file: Path, as_json: bool) -> None:
    """Put a backup where the bus of this INTERLOCK_HOME will find it, and verify it there.

    The target is INTERLOCK_LEDGER, else ledger.db in INTERLOCK_HOME. It must be empty and no bus may run. What a bus did after the backup
    is not known to the restored one: it may do it again.
    """
    from interlock.backup import load

    folder = home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = load(file, ledger_of(folder), folder)
    if as_json:
        output.as_json(done)
    else:
        output.lines(f"{done['ledger']}: {done['entries']} entries restored, intact. `interlock up` goes on with its tasks.")


@ledger.command()
@output.json_option
def stats(as_json: bool) -> None:
    """Show how large the ledger is and what it is made of."""
    from contextlib import closing

    from interlock.orchestrator.ledger.stats import stats as stats_of
    from interlock.orchestrator.ledger.stores import open_reader
    from interlock.schemas.times import rfc3339

    place = ledger_of(home())
    with closing(open_reader(place)) as reader:
        found = stats_of(reader)
    last = found.pop("last_at")
    if as_json:
        output.as_json({"ledger": str(place), **found, "last_at": None if last is None else rfc3339(last)})
        return
    output.lines(f"{place}: {found['entries']} entries, {found['bytes']} bytes on disk, epoch {found['epoch']}, layout {found['layout']}.")
    if last is not None:
        tasks = ", ".join(f"{count} {how}" for how, count in found["tasks"].items())
        output.lines(f"Last entry {output.when(last)}. Tasks: {tasks or 'none'}.")
    rows = sorted(found["kinds"].items(), key=lambda one: -one[1]["bytes"])
    output.table(("kind", "entries", "bytes"), [(kind, one["entries"], one["bytes"]) for kind, one in rows])
