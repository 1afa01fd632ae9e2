"""The laws of the bus, as they can be seen in what a storm leaves: the ledger, the supervisor's journal, the world outside."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from journal_laws import check_fences, check_limits
from storms import Run, play

from interlock.schemas import entries as e
from interlock.schemas.budget import TOKENS
from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerDamaged
from interlock.schemas.undo import UNDO, undoing_of

F = TypeVar("F")

WHY = {
    "success": ("",),
    "killed": ("ann killed it: enough",),
    "budget_exceeded": ("its limit on seconds is reached", "The task's limit on steps is reached"),
    "failed": ("stalled: ", "Agent clerk failed on shop.write_note 1.0.0: The model scripted-1 at "),
    "expired": ("nobody at boss decided ",),
}
"""How a task may end, and why: somebody wanted it, its budget was too small, it was hit too often, its model gave no answer, nobody could
be asked in time. The words begin the reason."""

EXPLAINS = {"model.called", "model.cut_off", "receipt.recorded", "reply.refused", "effect.refused", "effect.ended", "deed.settled"}
FORGETS = {"task.erased", "content.pruned"}
"""What may still be recorded of a task that has ended."""


class LawBroken(AssertionError):
    """What a storm has left is against these laws."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(f"{law}: {problem}" for law, problem in problems.items()))
        self.laws = list(problems)


def facts_of(run: Run, kind: type[F]) -> list[tuple[Entry, F]]:
    return [(entry, fact) for entry, fact in run.facts if isinstance(fact, kind)]


def each_task_has_one_outcome(run: Run) -> None:
    """Every accepted task is there and has exactly one outcome, the one that its driver was told, for a reason that there was."""
    accepted, ends = facts_of(run, e.TaskAccepted), facts_of(run, e.TaskEnded)
    assert {entry.task for entry, fact in accepted if fact.type != UNDO} == run.accepted.keys()
    assert max(Counter(entry.task for entry, _ in accepted).values()) == 1
    assert Counter(entry.task for entry, _ in ends) == Counter(entry.task for entry, _ in accepted)
    assert {entry.task: fact.outcome for entry, fact in ends if entry.task in run.accepted} == run.outcomes
    for _, fact in ends:
        assert any(fact.reason.startswith(words) for words in WHY[fact.outcome]), (fact.outcome, fact.reason)


def everything_comes_to_its_end(run: Run) -> None:
    """Nothing is left over, and where nothing goes wrong any more a task succeeds."""
    assert "none" not in run.outcomes.values(), run.outcomes
    assert run.outcomes["tsk_calm"] == "success", run.outcomes
    assert not run.left, run.left


def nothing_after_the_end(run: Run) -> None:
    """What comes after an outcome explains, or says what was destroyed; it changes nothing."""
    ended = {entry.task: entry.seq for entry, _ in facts_of(run, e.TaskEnded)}
    late = [(entry, fact) for entry, fact in run.facts if entry.seq > ended.get(entry.task, len(run.facts))]
    assert {entry.kind for entry, _ in late} <= EXPLAINS | FORGETS, {entry.kind for entry, _ in late} - EXPLAINS
    abandoned = {fact.effect for _, fact in facts_of(run, e.EffectUnknown) if fact.then == "none"}
    assert {fact.effect for _, fact in late if isinstance(fact, e.EffectEnded)} <= abandoned


def what_was_acknowledged_is_there(run: Run) -> None:
    """Decisions and orders that were confirmed are recorded, and an order is carried out to its receipt."""
    decisions = {fact.item: fact.decision for _, fact in facts_of(run, e.ItemDecided)}
    assert run.decided.items() <= decisions.items()
    orders = {row.task for row in run.rows if row.kind == "order"}
    receipts = {row.task for row in run.rows if row.kind == "receipt"}
    assert set(run.killed) <= orders
    assert orders == receipts
    assert Counter(entry.task for entry, _ in facts_of(run, e.ReceiptRecorded)) == Counter(list(receipts))
    outcomes = {entry.task: fact.outcome for entry, fact in facts_of(run, e.TaskEnded)}
    for entry, fact in facts_of(run, e.OrderRecorded):
        assert outcomes[entry.task] == ("killed" if fact.what == "kill" else "budget_exceeded")


def nothing_is_told_before_it_is_durable(run: Run) -> None:
    assert not run.early, run.early


def only_the_current_attempt_is_heard(run: Run) -> None:
    """A reply is that of whoever the message was handed to last."""
    current: dict[str, str] = {}
    for _, fact in run.facts:
        if isinstance(fact, e.MessageSent | e.DispatchAttempted):
            current[fact.dispatch] = fact.attempt
        elif isinstance(fact, e.MessageReceived):
            assert fact.attempt == current[fact.dispatch], fact


def what_happens_is_recorded_once(run: Run) -> None:
    """A message is sent once and has one reply, a call has one result, and each is billed once."""
    for kind in (e.ModelCalled, e.EffectEnded):
        twice = {effect: number for effect, number in Counter(fact.effect for _, fact in facts_of(run, kind)).items() if number > 1}
        assert not twice, (kind.__name__, twice)
    sent = Counter(fact.dispatch for _, fact in facts_of(run, e.MessageSent))
    assert all(number == 1 for number in sent.values()), sent
    replies = Counter(fact.dispatch for _, fact in run.facts if isinstance(fact, e.MessageReceived | e.DispatchFailed))
    assert all(number == 1 for number in replies.values()), replies
    settled = Counter(row.data["id"] for row in run.rows if row.kind == "settle")
    assert all(number == 1 for number in settled.values()), settled


def each_model_call_is_told(run: Run) -> None:
    """Whatever was held for a model call is told: answered or cut off, at that gateway. But for one that was never sent."""
    told = {(fact.effect, fact.gateway) for kind in (e.ModelCalled, e.ModelCutOff) for _, fact in facts_of(run, kind)}
    in_vain = {row.data["id"] for row in run.rows if row.kind == "settle" and not int(row.data["actual"].get(TOKENS, 0))}
    for id in {row.data["id"] for row in run.rows if row.kind == "reserve"} - in_vain:
        call, _, place = id.partition("@")
        assert not place or (call.partition("#")[0], place.partition("/")[0]) in told, id


def no_deed_is_done_twice(run: Run) -> None:
    assert not run.world.repeated, run.world.repeated


def each_deed_was_intended_before(run: Run) -> None:
    assert not run.world.unintended, run.world.unintended


def nothing_is_granted_after_a_fence(run: Run) -> None:
    check_fences(run.rows, run.facts)


def what_a_calm_task_held_is_settled(run: Run) -> None:
    """Nothing went wrong when it came: each of its effects was charged what it cost, and it is closed."""
    held = {row.data["id"] for row in run.rows if row.kind == "reserve" and row.task == "tsk_calm"}
    assert held
    assert held == {row.data["id"] for row in run.rows if row.kind == "settle" and row.task == "tsk_calm"}
    assert any(row.kind == "close" and row.task == "tsk_calm" for row in run.rows)


def no_limit_is_exceeded(run: Run) -> None:
    check_limits(run.rows, at_least=1)


def what_was_erased_is_gone_and_nothing_else(run: Run) -> None:
    """What was acknowledged as erased says nothing any more, and answers so. What model calls said is pruned in the end; all else stays."""
    erased = {entry.task for entry, _ in facts_of(run, e.TaskErased)}
    undone = {entry.task for entry, fact in facts_of(run, e.TaskAccepted) if fact.type == UNDO}
    assert erased == set(run.erased) | (undone & set(map(undoing_of, run.erased)))
    for task, heard in run.erased.items():
        assert heard == ["erased" if run.outcomes[task] == "success" else "task_failed", "erased"], heard
    pruned = {entry.task for entry, _ in facts_of(run, e.ContentPruned)}
    assert pruned == {entry.task for entry, _ in facts_of(run, e.ModelCalled)} - erased
    assert not any(run.disk.contents.values())
    opener = run.disk.opener()
    for stored, (_, said) in zip(run.disk.log, run.facts, strict=True):
        now = opener.open(stored)
        if stored.task in erased:
            assert not now.content, said
        elif isinstance(said, e.ModelCalled):
            assert now.gone == e.PRUNED, said
        else:
            assert now.open() == said, said


def what_did_not_succeed_is_undone(run: Run) -> None:
    """What was registered to be undone and happened is, once, the last first; nothing else is, and nothing of who succeeded."""
    for task, name in run.accepted.items():
        facts = [fact for entry, fact in run.facts if entry.task == task]
        undoing = [fact for entry, fact in run.facts if entry.task == undoing_of(task)]
        registered = [fact for fact in facts if isinstance(fact, e.UndoRegistered)]
        intended = {fact.tool for fact in facts if isinstance(fact, e.EffectIntended)}
        happened = {fact.tool for fact in facts if isinstance(fact, e.EffectEnded) and fact.ok}
        begun = {fact.dispatch: fact.n for fact in undoing if isinstance(fact, e.UndoBegun)}
        done = [begun[fact.dispatch] for fact in undoing if isinstance(fact, e.MessageReceived)]
        wanted = bool(registered) and run.outcomes[task] != "success"
        assert bool(undoing) == wanted, (task, run.outcomes[task], len(registered))
        assert done == sorted(set(done), reverse=True), done
        assert {fact.tool for fact in registered if fact.n in begun.values()} <= {one.tool for one in registered if one.of in intended}
        whole = any(isinstance(fact, e.TaskEnded) and fact.outcome == "success" for fact in undoing)
        if whole:
            assert {fact.n for fact in registered if fact.of in happened} <= set(done), (task, done)
        for fact in registered:
            assert not whole or run.world.happened(fact.tool, name) == (fact.n in done), (task, fact.tool)
        assert wanted or not any(run.world.happened(tool, name) for tool in ("unmark", "unfile")), task


def the_ledger_verifies(run: Run) -> None:
    """The chain is whole, and the projections are what the entries come to."""
    try:
        assert run.disk.verify() == len(run.facts)
    except LedgerDamaged as error:
        raise AssertionError(str(error)) from None


LAWS: tuple[Callable[[Run], None], ...] = (
    each_task_has_one_outcome,
    everything_comes_to_its_end,
    nothing_after_the_end,
    what_was_acknowledged_is_there,
    nothing_is_told_before_it_is_durable,
    only_the_current_attempt_is_heard,
    what_happens_is_recorded_once,
    each_model_call_is_told,
    no_deed_is_done_twice,
    each_deed_was_intended_before,
    nothing_is_granted_after_a_fence,
    what_a_calm_task_held_is_settled,
    no_limit_is_exceeded,
    what_was_erased_is_gone_and_nothing_else,
    what_did_not_succeed_is_undone,
    the_ledger_verifies,
)


def judge(seed: int) -> Run:
    """Play a storm; raises `LawBroken` with all the laws that are."""
    run = play(seed)
    problems: dict[str, str] = {}
    for law in LAWS:
        try:
            law(run)
        except AssertionError as error:
            problems[law.__name__] = str(error)[:500]
    if problems:
        raise LawBroken(problems)
    return run


__all__: list[Any] = ["LAWS", "LawBroken", "judge"]
