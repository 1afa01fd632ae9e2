"""A task's history as its runner replays it: the commands it gave and what became of them, in ledger order."""

from typing import Any

from interlock.orchestrator.state import TaskState, apply, raw
from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.envelope import Envelope
from interlock.schemas.frames import Command, Happened, tagged
from interlock.schemas.specs import ContractRef


def reply_event(task: str, number: int, fact: e.MessageReceived, contract: ContractRef, data: bytes, at: int, evidence: bytes) -> Happened:
    """The event of a reply: the live path has contract and data at hand, replay opens the recorded envelope."""
    return Happened(task, number, fact.n, "reply", data, at, evidence, contract.name, contract.version, fact.degraded, fact.migrated)


def happened(task: str, number: int, fact: e.Fact, at: int, evidence: bytes = b"") -> Happened | None:
    """The event number `number` that `fact` is for the workflow; none for facts that a workflow does not hear of."""
    if isinstance(fact, e.MessageReceived):
        envelope = Envelope.decode(raw(fact.envelope))
        return reply_event(task, number, fact, envelope.contract, envelope.data, at, evidence)
    if isinstance(fact, e.DispatchFailed):
        return Happened(task, number, fact.n, "failure", encode(fact.error), at, evidence)
    if isinstance(fact, e.MessagePosted):
        envelope = Envelope.decode(raw(fact.envelope))
        return Happened(task, number, 0, "message", envelope.data, at, b"", envelope.contract.name, envelope.contract.version)
    if isinstance(fact, e.TimerFired):
        return Happened(task, number, fact.n, "timer", b"null", at, b"")
    if isinstance(fact, e.ItemDecided) and fact.n and fact.decision != "expired":
        answer = {"approved": fact.decision == "approved", "note": fact.note, "by": fact.by}
        return Happened(task, number, fact.n, "answer", encode(answer), at, b"")
    return None


def command(fact: e.Fact) -> Command | None:
    """The command of the workflow that `fact` records; none for other facts."""
    if isinstance(fact, e.MessageSent):
        envelope = Envelope.decode(raw(fact.envelope))
        return Command(fact.n, "ask", envelope.contract.name, envelope.contract.version, envelope.data, fact.returns)
    if isinstance(fact, e.TimerSet):
        return Command(fact.n, "sleep", "", "", encode(fact.seconds), [])
    if isinstance(fact, e.ItemAsked) and fact.n:
        return Command(fact.n, "human", "", "", encode({"text": fact.text, "details": fact.details}), [])
    if isinstance(fact, e.UndoRegistered):
        return Command(fact.n, "undo", fact.tool, fact.of, encode(fact.arguments), [])
    if isinstance(fact, e.CommandCancelled):
        return Command(fact.n, "cancel", "", "", b"null", [])
    return None


def history(id: str, entries: list[e.Entry]) -> tuple[list[list[Any]], int]:
    """The tagged frames that a runner replays, and how many events are among them."""
    task, frames = TaskState(id), list[list[Any]]()
    for entry in entries:
        fact = entry.open()
        dispatch = task.dispatches.get(getattr(fact, "dispatch", ""))
        evidence = dispatch.evidence() if dispatch is not None else b""
        apply(task, fact, entry.at)
        frame = happened(id, task.events, fact, entry.at, evidence) or command(fact)
        if frame is not None:
            frames.append(tagged(frame))
    return frames, task.events
