"""How a command reaches its bus: the options that say which one, and the one function that connects.

A connection is let go of when the command ends, however it ends; the bus goes on.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from interlock.bus import Bus

P = ParamSpec("P")
R = TypeVar("R")

ADDRESS_HELP = "Address of the Ray cluster, HOST:PORT. [default: where `interlock up` put the bus of this INTERLOCK_HOME]"
NAME_HELP = "Name of the bus: several may share a cluster. [default: the bus of this INTERLOCK_HOME, else interlock]"


def connect(address: str | None, name: str | None) -> "Bus":
    """A handle on the bus called `name`. Raises `NotRunning`."""
    from interlock.bus import Bus

    return Bus.connect(address, name=name)


def which_bus(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options `--address` and `--name`."""
    named = click.option("--name", metavar="NAME", help=NAME_HELP)(command)
    return click.option("--address", metavar="ADDRESS", help=ADDRESS_HELP)(named)


def on_bus(command: "Callable[Concatenate[Bus, P], R]") -> Callable[..., R]:
    """Give a command these options and, as its first argument, the bus that they say."""

    @wraps(command)
    def connected(*args: Any, address: str | None, name: str | None, **kwargs: Any) -> R:
        with connect(address, name) as bus:
            return command(bus, *args, **kwargs)

    return which_bus(connected)
