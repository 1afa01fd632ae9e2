"""What commands print: tables and lines for people, JSON for programs.

What a model or a user wrote is printed as it is, without markup, and with every character written out that could move a cursor, hide
text or turn it round. Without a terminal there are neither colours nor borders nor line breaks to fit a width.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from interlock.schemas.sizes import PAGE_AT_MOST
from interlock.tools.approval import visible

LONGEST = 20_000
"""Characters of one text that are printed; `visible` says how many were left out."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
limit_option = click.option("--limit", type=click.IntRange(1, PAGE_AT_MOST), default=20, show_default=True, help="At most so many.")
after_option = click.option("--after", metavar="ID", default="", help="Those that came after this one.")


def one_line(text: str, most: int = LONGEST) -> str:
    """The text on one line, with nothing hidden in it."""
    return visible(" ".join(text.split()), most)


def lines(text: str, err: bool = False) -> None:
    """Print a text of several lines, all of it and with nothing hidden in it."""
    for line in text.split("\n"):
        click.echo(visible(line), err=err)


def as_json(value: Any) -> None:
    """Print one JSON value; ASCII, so that nothing is hidden in it."""
    click.echo(json.dumps(value, indent=2, default=str))


def value(content: Any, most: int | None = LONGEST) -> str:
    """A JSON value on one line for people."""
    return visible(json.dumps(content, ensure_ascii=False, default=str), most)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns; a table on a terminal, else a line per row."""
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    widths = [max(len(row[at]) for row in [list(columns), *cells]) for at in range(len(columns))]
    for row in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)


def more(rows: Sequence[Mapping[str, Any]], count: int, command: str) -> None:
    """Say how many come after those that were printed, and how to see them; on stderr, where programs read the rest."""
    if count:
        click.echo(f"{count:,} more: `{command} --after {rows[-1]['item']}` shows what comes next.", err=True)


def when(at: int) -> str:
    """Microseconds since the epoch, for people."""
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def wire(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the ledger for programs: times in RFC 3339, what is JSON as JSON."""
    from interlock.schemas.times import rfc3339

    def plain(key: str, found: Any) -> Any:
        if key in ("accepted_at", "ended_at", "asked_at", "expires", "decided_at"):
            return None if found is None else rfc3339(found)
        return json.loads(found) if key == "details" else found

    return {key: plain(key, found) for key, found in row.items()}
