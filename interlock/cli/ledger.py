"""Commands that look after the ledger where it is kept; they need no bus, but for what writes: only the bus does."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli import output
from interlock.cli.connection import on_bus
from interlock.cli.inputs import NewFile
from interlock.schemas.bus_entries import RETENTION_DAYS
from interlock.settings import home, ledger_of

if TYPE_CHECKING:
    from interlock.bus import Bus


@click.group()
def ledger() -> None:
    """Back up, restore, measure and prune the ledger."""


@ledger.command()
@click.argument("file", metavar="FILE", type=NewFile())
@output.json_option
def backup(file: Path, as_json: bool) -> None:
    """Write a backup of ledger and journal into FILE, verified, also while the bus runs.

    FILE has one format, whether the ledger is in a file or in PostgreSQL, and restores into either. It holds all that the ledger holds,
    with the keys of what tasks said: who erases a task has to see to its backups too. Kills that wait in files of this INTERLOCK_HOME
    for a supervisor are in it like those in the journal.
    """
    from interlock.backup import save

    done = save(ledger_of(home()), home(), file)
    if as_json:
        output.as_json(done)
    else:
        output.lines(f"{file}: {done['entries']} entries, intact, the last one {done['head'][:16]}; {done['journal']} rows of the journal.")


@ledger.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
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
@click.option(
    "--days", default=RETENTION_DAYS, show_default=True, metavar="N", help="Keep it for so many days after a task's end, 30 at least."
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@output.json_option
@on_bus
def prune(bus: "Bus", days: int, dry_run: bool, as_json: bool) -> None:
    """Delete what model calls said of tasks that ended long ago.

    Their requests and responses go; when which model was called, at what cost, and all else that tasks said stays. Nothing of a live task
    is pruned, and nothing is pruned by itself: run this as often as you like. Each pruned task has an entry that says so, and
    `interlock audit verify` goes on proving the ledger. Its file does not shrink: the room is used again. Where that is what overwrites
    it, in a PostgreSQL, you are told.
    """
    done = bus.prune(days=days, dry_run=dry_run)
    if as_json:
        output.as_json(done)
        return
    what = f"what model calls of {done['tasks']} tasks said ({done['pieces']} pieces, {done['bytes']} bytes)"
    if not done["tasks"]:
        output.lines(f"Nothing is kept of model calls of tasks that ended before {done['ended_before']}.")
    elif dry_run:
        output.lines(f"To be pruned: {what}; these tasks ended before {done['ended_before']}.")
    else:
        output.lines(f"Pruned: {what}; these tasks ended before {done['ended_before']}.")
        if done["traces"]:
            output.lines("A reader of the ledger keeps traces of it in the database's files for now. They go when it has read.")
        if done["reused"]:
            output.lines("The database overwrites it in its files as it uses the room again.")


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
    if found["kept"]["pieces"]:
        output.lines(f"Of model calls {found['kept']['pieces']} pieces are kept, {found['kept']['bytes']} bytes.")
    rows = sorted(found["kinds"].items(), key=lambda one: -one[1]["bytes"])
    output.table(("kind", "entries", "bytes"), [(kind, one["entries"], one["bytes"]) for kind, one in rows])
