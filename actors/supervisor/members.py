"""What pools are made of: who makes their members, at what pace, and what is known of a pool and of each member."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from interlock.actors.supervisor.autoscale import ScalePace, Scaler


class Spawner(Protocol):
    """Who really makes processes."""

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        """Make one member, ready for work on return."""

    async def stop(self, incarnation: str) -> None:
        """End one that has nothing to do any more, or never came to life; harmless where there is none."""

    def waits(self, incarnation: str) -> str:
        """What keeps one that is being made from having a process, in words; empty where nothing is known to."""


class PoolState(NamedTuple):
    """How a pool stands: members `wanted`, `least` to `most` of them by its load unless somebody has `pinned` its size, and those that
    are `ready`, `starting` or `leaving`. `trouble` says in words what keeps it from its size, empty where nothing does."""

    wanted: int
    ready: int
    starting: int
    leaving: int
    trouble: str
    least: int
    most: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class PoolPace:
    """Seconds. `drain`: to end what it has, `calm`: the same where only the load asks it to leave; `young`: a life shorter than this
    counts as a failure; the `first` pause after a second failure in a row, doubled with each more up to the `last`; `birth`: for one
    spawn; `scale` is how pools follow their loads."""

    drain: float = 30.0
    calm: float = 3600.0
    young: float = 10.0
    first: float = 0.1
    last: float = 30.0
    birth: float = 120.0
    scale: ScalePace = field(default_factory=ScalePace)


@dataclass(slots=True)
class Member:
    """`state`: `starting`, `ready` or `leaving`."""

    pool: str
    state: str = "starting"
    since: float = 0.0


@dataclass(slots=True)
class Pool:
    """`size` is what it has now, `pin` what somebody asked for; without a pin it follows the load, `least` to `most`."""

    kind: str
    size: int
    scaler: Scaler
    least: int = 0
    most: int = 0
    pin: int | None = None
    found: int = 0
    number: int = 0
    failures: int = 0
    not_before: float = 0.0
    trouble: str = ""
    loss: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
