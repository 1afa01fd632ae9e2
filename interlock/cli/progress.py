"""Where a delivery's progress is shown: on a terminal above a live panel (budget, messages, who works on what), else as plain lines."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Protocol

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from interlock.cli.narration import Narration, Told
from interlock.cli.output import one_line

Used = Mapping[str, tuple[Any, Any, Any]]

_STYLES = {"workflow": "cyan", "planning": "magenta", "coding": "blue", "review": "yellow", "deploy": "green"}
_BAR = 30


class Display(Protocol):
    """Where lines go."""

    def tell(self, told: Told) -> None: ...

    def measure(self, used: Used) -> None:
        """What the task has used by now."""

    def paused(self) -> Any:
        """A context in which nothing but the caller writes."""


class Lines:
    """One line per thing that happens."""

    def __init__(self, on_stderr: bool) -> None:
        self._err = on_stderr
        self._began = time.monotonic()

    def tell(self, told: Told) -> None:
        cost = f"  ({told.cost})" if told.cost else ""
        click.echo(f"{time.monotonic() - self._began:6.1f} s  {told.who:<9} {told.what}{cost}", err=self._err)

    def measure(self, used: Used) -> None:
        """Lines say what each step costs; the sum is said at the end."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield


class Panel:
    """Lines above a panel that is drawn anew several times a second; use it as a context manager."""

    def __init__(self, narration: Narration, on_stderr: bool) -> None:
        self._narration = narration
        self._console = Console(stderr=on_stderr, highlight=False)
        self._began = time.monotonic()
        self._used: Used = {}
        self._live: Live | None = None

    def __enter__(self) -> "Panel":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=5, transient=True)
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tell(self, told: Told) -> None:
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        line.append(f"{told.who:<9} ", style=_STYLES.get(told.who, ""))
        line.append(told.what)
        if told.cost:
            line.append(f"  ({told.cost})", style="dim")
        self._console.print(line)

    def measure(self, used: Used) -> None:
        self._used = used

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _draw(self) -> RenderableType:
        budget = Table.grid(padding=(0, 2))
        for meter, (used, reserved, limit) in self._used.items():
            shown: Decimal | int = round(Decimal(used), 1) if isinstance(used, Decimal) else used
            bar: RenderableType = ""
            if limit:
                bar = ProgressBar(total=float(limit), completed=float(used) + float(reserved), width=_BAR)
            budget.add_row(Text(one_line(meter), style="bold"), bar, Text(f"{shown:,}" + (f" of {limit:,}" if limit is not None else "")))
        work = Table.grid(padding=(0, 2))
        for agent, what in list(self._narration.at_work.items()):
            work.add_row(Text(agent, style=_STYLES.get(agent, "")), Text(what, overflow="ellipsis", no_wrap=True))
        return Group(Text(""), budget, Text(f"{self._narration.messages} messages, {self._narration.steps} steps", style="dim"), work)


@contextmanager
def display(narration: Narration, *, on_terminal: bool, on_stderr: bool) -> Iterator[Display]:
    """The right one for where it goes."""
    if not on_terminal:
        yield Lines(on_stderr)
        return
    with Panel(narration, on_stderr) as panel:
        yield panel
