"""One delivery from submit to report: a bus on a Ray of its own, the task, its progress, what waits for a human, and how it ended."""

import asyncio
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from interlock.actors.team.contracts import DeliveryRequest
from interlock.app import App
from interlock.bus import Bus, Task
from interlock.cli import output
from interlock.cli.answers import Answerer
from interlock.cli.narration import Narration, Told
from interlock.cli.progress import Display, display
from interlock.schemas.entries import ItemAsked, TaskEnded
from interlock.schemas.errors import AlreadyDecided, UnknownItem
from interlock.schemas.record import Outcome, RunRecord
from interlock.settings import ModelSettings
from interlock.tools.git import Repository

LEDGER = "ledger.db"


@dataclass(frozen=True)
class Order:
    """What to deliver and how. `folder` keeps ledger and journal; `notes` are told before and after."""

    app: App
    request: DeliveryRequest
    model: ModelSettings
    folder: Path
    answerer: Answerer
    on_terminal: bool
    as_json: bool
    limits: Mapping[str, str] | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """How it ended."""

    order: Order
    end: TaskEnded
    record: RunRecord
    entries: int
    decisions: list[dict[str, str]]
    sandbox: str

    @property
    def success(self) -> bool:
        return self.end.outcome == Outcome.SUCCESS

    @property
    def look(self) -> str:
        """The command that shows the commit; empty where there is none."""
        return f"git -C {shlex.quote(self.order.request.repository)} show {self.end.result['commit']}" if self.success else ""


def check(request: DeliveryRequest) -> None:
    """Refuse before anything is spent. Raises `NotARepository`, or `GitFailed` where the branch cannot be committed to."""

    async def look() -> None:
        await (await Repository.open(Path(request.repository))).start_of(request.branch)

    asyncio.run(look())


def deliver(order: Order) -> Report:
    """Run the task to its end. Interrupted, it kills the task and raises `click.Abort`."""
    for note in order.before:
        output.lines(note, err=order.as_json)
    click.echo("Starting a bus on a Ray of its own …", err=order.as_json)
    order.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if order.as_json:  # Ray prints there what it has to say about a process that ended
            stack.enter_context(redirect_stdout(sys.stderr))
        return follow(stack.enter_context(Bus.start(order.app, model=order.model, folder=order.folder)), order)


def follow(bus: Bus, order: Order) -> Report:
    """Submit on this bus, tell what happens, have answered what waits, and verify the ledger at the end."""
    narration = Narration()
    task = bus.submit_json("software_delivery", order.request.model_dump(mode="json"), limits=order.limits)
    try:
        with display(narration, on_terminal=order.on_terminal, on_stderr=order.as_json) as shown:
            _watch(bus, task, order, narration, shown)
    except (KeyboardInterrupt, click.Abort):
        receipt = task.kill("interrupted at the terminal")
        stopped = "everything of it has stopped" if receipt["verified"] else "not everything of it is seen to have stopped"
        click.echo(f"{task.id} is killed: {stopped}.", err=True)
        raise click.Abort from None
    assert narration.end is not None, "events end with the task's end"
    decisions = [{"item": one.item, "decision": one.decision, "by": one.by, "note": one.note} for one in narration.decisions]
    return Report(order, narration.end, task.record(), bus.verify(), decisions, narration.sandbox)


def _watch(bus: Bus, task: Task[Any], order: Order, narration: Narration, shown: Display) -> None:
    for event in task.events():
        told = narration.take(event.fact)
        shown.measure(task.used())
        if told is not None:
            shown.tell(told)
        if isinstance(event.fact, ItemAsked):
            with shown.paused():
                answer = order.answerer.answer(event.fact)
            shown.tell(Told("human", answer.said))
            decide = bus.inbox.approve if answer.approve else bus.inbox.deny
            try:
                decide(event.fact.item, answer.note, by=answer.by or None)
            except (UnknownItem, AlreadyDecided) as late:
                shown.tell(Told("human", f"that answer came too late and changes nothing: {late}"))


# --- the report -----------------------------------------------------------------------------------------------------------------


def tell(report: Report) -> None:
    """Print how it ended: JSON for programs, lines for people."""
    if report.order.as_json:
        output.as_json(_wire(report))
        return
    click.echo("")
    for name, text in _lines(report):
        output.lines(f"{name:<10} {text}")
    click.echo(f"ledger intact: {report.entries} entries")
    for at, text in enumerate(_next(report)):
        output.lines(f"{'' if at else 'next':<10} {text}")


def _wire(report: Report) -> dict[str, Any]:
    order, result = report.order, report.end.result if report.success else {}
    return {
        "task": report.record.task_id,
        "outcome": report.end.outcome,
        "reason": report.end.reason,
        "repository": order.request.repository,
        "branch": order.request.branch,
        "base": result.get("base"),
        "commit": result.get("commit"),
        "look": report.look or None,
        "delivered": result.get("delivered", []),
        "sandbox": report.sandbox or None,
        "decisions": report.decisions,
        "record": report.record.model_dump(mode="json"),
        "ledger": {"intact": True, "entries": report.entries, "path": str(order.folder / LEDGER)},
    }


def _lines(report: Report) -> list[tuple[str, str]]:
    order, record = report.order, report.record
    lines = [("outcome", report.end.outcome)]
    if report.end.reason:
        lines.append(("reason", output.one_line(report.end.reason)))
    if report.success:
        lines += [("commit", f"{report.end.result['commit']} on branch {order.request.branch}"), ("look at it", report.look)]
    else:
        lines.append(("commit", "none; the repository is as it was"))
    tools = len(record.tool_calls)
    lines += [
        ("sandbox", report.sandbox or "none was needed: no tests ran"),
        (
            "record",
            f"{record.task_id}: {record.steps} steps ({tools} tool calls), {record.input_tokens:,} tokens in, {record.output_tokens:,} out",
        ),
        ("", f"{record.cost_usd} USD, {record.start_time} to {record.end_time}"),
        ("ledger", f"{order.folder / LEDGER}"),
    ]
    return lines


def _next(report: Report) -> list[str]:
    """What to try now."""
    ledger = shlex.quote(str(report.order.folder / LEDGER))
    return [*([report.look] if report.success else []), f"interlock audit verify --ledger {ledger}", *report.order.after]
