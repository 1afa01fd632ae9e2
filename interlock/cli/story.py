"""A task's story for a person: how it stands, what it used of what it might, what happened, what waits, what a kill stopped.

All of it is a fold of the task's entries; what messages said is left out, but for the result.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from interlock.actors.supervisor.receipt import text as receipt_text
from interlock.actors.supervisor.receipt import undo_lines
from interlock.cli import output
from interlock.orchestrator.ledger.folds import limits_in, timeline
from interlock.schemas import entries as e
from interlock.schemas.budget import SECONDS, STEPS, TOKENS, USD, writes_meter
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.record import Receipt, RunRecord


def story(
    record: RunRecord, entries: Sequence[e.Entry], items: Sequence[dict[str, Any]], undos: Sequence[dict[str, Any]] = ()
) -> Iterator[str]:
    """The lines to print. `items` are the task's open items of the inbox, `undos` what it registered to be undone."""
    facts = [entry.open() for entry in entries]
    began = next(entry.at for entry in entries if entry.kind == e.TaskAccepted.KIND)
    yield f"{record.task_id}  {record.task_type}{_for(record.tenant)}  {_standing(record, facts, items)}"
    took = next(((entry.at - began) / 1e6 for entry in entries if entry.kind == e.TaskEnded.KIND), None)
    yield f"  began {output.when(began)}, {'still live' if took is None else f'took {took:.3f} s'}"
    yield from (f"  {meter}: {amount}" for meter, amount in _budget(record, facts, took))
    if record.error:
        yield f"  error: {output.one_line(record.error)}"
    for fact in facts:
        if isinstance(fact, e.TaskEnded) and fact.result is not None:
            result = str(fact.result) if isinstance(fact.result, e.Gone) else output.value(fact.result)
            yield f"  result ({fact.contract} {fact.contract_version}): {result}"
    yield ""
    yield from _happened(entries, began)
    for item in items:
        yield ""
        yield from item_lines(item)
    if undos:
        yield ""
        yield from undo_lines(undos)
    for fact in facts:
        if isinstance(fact, e.ReceiptRecorded):
            yield ""
            yield "Receipt:"
            yield receipt_text(Receipt(**fact.receipt))


def item_lines(item: dict[str, Any]) -> Iterator[str]:
    """One item of the inbox with all that one needs to decide about it."""
    yield f"{item['item']}  {item['kind']}  for {item['to']}  of task {item['task']}, expires {output.when(item['expires'])}"
    yield f"  {output.one_line(item['text'])}"
    details = output.wire(item)["details"]
    arguments = details if item["kind"] == "diverged" else details.get("arguments") if isinstance(details, dict) else None
    shown = arguments if isinstance(arguments, dict) else {"details": details} if details is not None else {}
    yield from (f"    {output.one_line(name)} = {output.value(argument, None)}" for name, argument in shown.items())
    if item["kind"] == "dead":
        yield f"  interlock dead retry {item['item']}   or   interlock dead drop {item['item']}"
        return
    yield f"  interlock approve {item['item']}   or   interlock deny {item['item']}"


def _for(tenant: str) -> str:
    return "" if tenant == DEFAULT_TENANT else f" for {tenant}"


def _standing(record: RunRecord, facts: Sequence[e.Fact], items: Sequence[dict[str, Any]]) -> str:
    if record.outcome is not None:
        return record.outcome.value
    if any(isinstance(fact, e.TaskDiverged) for fact in facts):
        return "diverged"
    return "waiting for a human" if items else "running"


def _budget(record: RunRecord, facts: Sequence[e.Fact], took: float | None) -> Iterator[tuple[str, str]]:
    """Per meter what was used, and of how much where there is a limit."""
    limits = limits_in(facts)
    used: dict[str, Decimal | int] = {
        TOKENS: record.input_tokens + record.output_tokens + record.cut_off_tokens,
        STEPS: record.steps,
        USD: Decimal(record.cost_usd),
    }
    if took is not None:
        used[SECONDS] = Decimal(f"{took:.3f}")
    written = {fact.effect: fact.system for fact in facts if isinstance(fact, e.EffectIntended) and fact.system}
    used |= {writes_meter(system): number for system, number in Counter(written.values()).items()}
    for meter in dict.fromkeys([*used, *limits]):
        limit = f" of {Decimal(limits[meter]):,}" if meter in limits else ""
        yield meter, f"{used.get(meter, 0):,}{limit}" if meter in used or meter != SECONDS else f"under way{limit}"


def _happened(entries: Sequence[e.Entry], began: int) -> Iterator[str]:
    told = timeline(entries)
    width = max((len(line.who) for line in told), default=0)
    for entry, line in zip(entries, told, strict=True):
        after = (entry.at - began) / 1e6
        yield f"{after:10.3f} s  {line.who.ljust(width)}  {line.what}" + (f"  ({line.cost})" if line.cost else "")
