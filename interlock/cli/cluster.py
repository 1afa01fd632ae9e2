"""Commands about the bus itself: start it and deploy to it, stop it, see how it stands, scale an agent."""

from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Literal

import click

from interlock.cli import output
from interlock.cli.connection import NAME_HELP, on_bus, which_bus
from interlock.cli.group import REFUSED
from interlock.cli.stops import closed
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.specs import OWN_POOLS
from interlock.settings import home

if TYPE_CHECKING:
    from interlock.bus import Bus


@click.command()
@click.argument("target", metavar="[MODULE:APP]", required=False)
@output.json_option
@which_bus
def up(target: str | None, address: str | None, name: str | None, as_json: bool) -> None:
    """Start a bus with an app.

    MODULE is a dotted module or the path of a .py file, APP the name of the app in it. Without --address a Ray of its own is started on
    this machine; ledger and files are kept in INTERLOCK_HOME (default: .interlock in the current folder). If there is a ledger already,
    its tasks go on where they stood.

    \b
    Examples:
      interlock up examples/invoicing/app.py:app
      interlock up shop.billing:app --address 10.0.0.5:6379
    """
    from interlock import launch

    running = launch.up(target, address=address, name=name, home=home())
    if as_json:
        output.as_json(running)
        return
    output.lines(f"Bus {running['name']} runs at {running['address']}; its ledger is in {running['home']}.")
    if target:
        output.lines(f"App {running['app']}: {', '.join(running['agents']) or 'no agents'}.")


@click.command()
@click.argument("target", metavar="MODULE:APP")
@output.json_option
def check(target: str, as_json: bool) -> int:
    """Look at an app without starting it: is it declared well, and would its workflows do the same in a replay?

    A workflow is replayed from its record, so it may neither ask the clock, chance or a file nor start a thread; what of that stands in its
    code is shown with its line and what to use instead. `up` warns of the same and goes on. The exit code is 1 where something is found.
    """
    from interlock.lint import findings
    from interlock.loading import load_app
    from interlock.proving import prove_migrations

    app = load_app(target)
    app.spec()
    prove_migrations(app)
    found = findings(app)
    if as_json:
        output.as_json([one._asdict() for one in found])
    else:
        for one in found:
            output.lines(str(one))
        if not found:
            output.lines(f"App {app.name}: nothing to say about its {_many(app.agents, 'agent')} and {_many(app.workflows, 'workflow')}.")
    return REFUSED if found else 0


def _many(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


@click.command()
@click.option("--name", metavar="NAME", help=NAME_HELP)
@output.json_option
def down(name: str | None, as_json: bool) -> None:
    """Stop the bus. Nothing is lost: `interlock up` goes on with every task where it stood."""
    from interlock import launch

    stopped = launch.down(name=name, home=home())
    if as_json:
        output.as_json(stopped)
    else:
        output.lines(f"Stopped: {', '.join(stopped['stopped'])}." if stopped["stopped"] else "Nothing was running.")


@click.command()
@output.json_option
@on_bus
def status(bus: "Bus", as_json: bool) -> None:
    """Show who runs and what is in flight.

    Live tasks and whose they are, messages at work, limits that tasks share and have nearly used up, and per pool its members, how many it
    should have (pinned, or by its load within bounds; "one each": each dispatch has a process to itself), what they work on and what waits
    for one of them. A pool that is kept from its size says by what. Where more is live or waits than may, submits are refused.
    """
    found = bus.status()
    if as_json:
        output.as_json(found)
        return
    output.lines(
        f"Epoch {found['epoch']}: {found['live_tasks']} live tasks, {found['waiting_tasks']} of them waiting for a human, "
        f"{found['parked_tasks']} parked; {found['live_dispatches']} messages at work."
    )
    for line in (*_shared(found), *_over(found), *closed(found["stops"])):
        output.lines(line)
    if found["orders"]:
        output.lines(f"Being stopped now: {', '.join(found['orders'][:10])}{' and others' if len(found['orders']) > 10 else ''}.")
    if found["dead_letters"]:
        output.lines(f"Dead letters that wait for a decision: {found['dead_letters']} (`interlock dead list`).")
    if found["suspects"]:
        output.lines(f"Tasks in the middle of which a runner was lost, to be resumed alone: {found['suspects']}.")
    for breaker in found["breakers"]:
        output.lines(
            f"Circuit breaker open: {breaker['what']}, since {breaker['since']}, after {breaker['failures']} failures in a row, "
            f"the last one: {breaker['last']}. It is not called, but for one call every 30 s that tries it."
        )
    for rate in found.get("rates", []):
        output.lines(_rate(rate))
    for line in _checkpoints(found.get("checkpoints")):
        output.lines(line)
    for name in ("ledger", "journal"):
        state, since, problem = (found[name][key] for key in ("state", "since", "problem"))
        if state != "ok":
            output.lines(f"{name}: {state} since {since}, {problem}\n{_MEANS[state]}")
    for name, one in _troubled(found):
        output.lines(f"pool {name}: {one['ready']} of {one['wanted']} are there; {one['trouble']}")
    output.table(("pool", "members", "wanted", "load", "queue"), _pools(found))


def _shared(found: dict[str, Any]) -> list[str]:
    """Whose the tasks are, where they are not all of one tenant; how many undo what others did; limits that are nearly used up."""
    tenants, undoing = found.get("tenants", {}), found["undoing_tasks"]
    some = [f"{tenant} {number}" for tenant, number in list(tenants.items())[:_TENANTS]]
    others = f" and {len(tenants) - _TENANTS} others" if len(tenants) > _TENANTS else ""
    lines = [f"By tenant: {', '.join(some)}{others}."] if tenants.keys() - {DEFAULT_TENANT} else []
    lines += [f"{undoing} of them undo what others did."] if undoing else []
    near = ((f"{one['scope']}{' per ' + one['per'] if one['per'] else ''}", one) for one in found.get("near_limits", []))
    return lines + [f"Limit of {scope}: {one['used']} of {one['limit']} {one['meter']} are used or held." for scope, one in near]


_TENANTS = 10
"""How many tenants are named, those with the most tasks."""


def _over(found: dict[str, Any]) -> list[str]:
    """What submits are refused for now."""
    live, bounds = found["live_tasks"] - found["parked_tasks"], found["bounds"]
    over = [f"{live} tasks are live, parked ones aside, and the bound is {bounds['live']}"] if live >= bounds["live"] else []
    over += [
        f"{found['queues'][agent]} messages wait for agent {agent}, and the bound is {bound}"
        for agent, bound in bounds["queues"].items()
        if found["queues"][agent] >= bound
    ]
    return [f"{one}: submits that would add to it are refused." for one in over]


def _rate(rate: dict[str, Any]) -> str:
    """What of a model's rate was used in the last minute, and who waits for it."""
    used = [f"{rate[one]}{'' if rate[f'of_{one}'] is None else ' of ' + str(rate[f'of_{one}'])} {one}" for one in ("requests", "tokens")]
    shut = f"; its endpoint asks to be left alone for {rate['shut_seconds']:g} s" if rate["shut_seconds"] else ""
    return f"Model {rate['lane']}: {' and '.join(used)} in the last minute, {rate['waiting']} calls wait{shut}."


_MEANS = {
    "stalled": "Nothing is accepted or granted meanwhile, and nothing is lost; the bus goes on by itself.",
    "slow": "What is to be accepted or granted waits for it, and nothing is lost; see what else uses that disk.",
    "silent": "Nothing is accepted or granted meanwhile, and nothing is lost; if it stays so, look at that disk and that process.",
}
"""What the state of ledger or journal means, and what to do."""


def _checkpoints(found: dict[str, Any] | None) -> list[str]:
    """How far the ledger is signed, and what keeps checkpoints from being written; nothing for a bus that keeps no files."""
    if found is None:
        return []
    lines = [f"The ledger is signed up to entry {found['entries']}; {found['unsigned']} entries came after."]
    return lines + [f"No checkpoint can be written to {place}: {problem}." for place, problem in found["problems"].items()]


def _troubled(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The pools that something keeps from their size."""
    return [(name, one) for name, one in found["keeping"].items() if one["trouble"]]


def _pools(found: dict[str, Any]) -> list[tuple[str, int, str, int, int]]:
    """Per pool its members, how many it should have and why, their load, and its queue."""
    loads: dict[str, list[int]] = {name: [] for name in found["queues"]}
    for peer in found["peers"]:
        loads.setdefault(peer["pool"], []).append(peer["load"])
    return [
        (
            name,
            len(load),
            _wanted(found["keeping"].get(name)) + (", one each" if name in found["exclusive"] else ""),
            sum(load),
            found["queues"].get(name, 0),
        )
        for name, load in loads.items()
    ]


def _wanted(pool: dict[str, Any] | None) -> str:
    """How many members a pool should have: pinned by somebody, or by its load within its bounds."""
    if pool is None:
        return "-"
    if pool["pinned"]:
        return f"{pool['wanted']} (pinned)"
    return f"{pool['wanted']} ({pool['least']} to {pool['most']})" if pool["least"] < pool["most"] else str(pool["wanted"])


class _Size(click.IntRange):
    """A number of replicas, or `auto`."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


@click.command()
@click.argument("agent", metavar="AGENT")
@click.argument("replicas", metavar="N|auto", type=_Size())
@on_bus
def scale(bus: "Bus", agent: str, replicas: "int | Literal['auto']") -> None:
    """Set how many replicas an agent has, or let it follow its load.

    New ones start, and those too many leave, in the background; no work is lost. A number stays until another one, or `auto`: then the pool
    grows as soon as messages wait, and shrinks by one where fewer have been enough for a minute, within the bounds that its agent
    declares.

    The pools `runners` and `models` can be scaled too.
    """
    bus.scale(agent, replicas)
    if replicas == "auto":
        output.lines(f"{agent} is to follow its load.")
        return
    noun = "member" if agent in OWN_POOLS else "replica"
    output.lines(f"{agent} is to have {replicas} {noun if replicas == 1 else noun + 's'}.")
