"""What tasks said, as every ledger keeps it: under its task's key, large pieces once, gone for good where it was erased."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_places import InMemory, Place, accepted, asked, decided, on_loop, place, written

from interlock.orchestrator.ledger.cipher import Cipher, Unopened
from interlock.orchestrator.ledger.contents import Contents, put_together
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.sealer import Sealer
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode, encode

__all__ = ["place"]

TASK, OTHER = "tsk_a", "tsk_b"


def called(step: int, messages: Sequence[Any], said: Any) -> e.ModelCalled:
    request = {"model": "scripted", "messages": list(messages), "temperature": 0, "tools": [{"name": "look", "text": "of a tool " * 40}]}
    response = {"id": f"answer-{step}", "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
    usage = {"input_tokens": 10, "output_tokens": 5}
    return e.ModelCalled(f"eff_{step}", "dsp_1", "1-1", "m", "m", "http://x", "hash", request, response, usage, "0.1", 1.0, 1)


def chain(steps: int) -> list[e.ModelCalled]:
    """A conversation in which each call shows the model all that was said before."""
    messages: list[Any] = [{"role": "system", "content": "You look."}, {"role": "user", "content": "Look at it."}]
    calls = []
    for step in range(steps):
        said = {"role": "assistant", "content": f"I look at number {step}. " + "z" * 60, "tool_calls": [{"id": f"call_{step}"}]}
        calls.append(called(step, messages, said))
        messages += [said, {"role": "tool", "tool_call_id": f"call_{step}", "content": f"number {step} is fine " + "y" * 60}]
    return calls


async def keep(place: Place, *facts: tuple[str, e.Fact]) -> None:
    ledger = place.open()
    ledger.open_epoch()
    for task, fact in facts:
        ledger.append(task, fact)
    await ledger.close()


def opened(reader: Reads, task: str = TASK) -> list[Any]:
    return [entry.open() for entry in reader.entries(task)]


def test_what_a_task_says_is_sealed_and_what_happened_is_readable(place: Place) -> None:
    said = e.MessageSent(1, "dsp_1", "1-1", "pricing", ["a.x 1.0.0"], "trusted", {"data": {"note": "a secret word"}})
    reader = written(place, (TASK, said), (TASK, e.DispatchFailed(1, "dsp_1", "1-1", {"code": "agent_failed", "message": "a secret word"})))
    for entry, readable in zip(reader.all_entries(), (b'"agent":"pricing"', b'"code":"agent_failed"'), strict=True):
        assert b"secret" not in entry.data
        assert readable in entry.data
    assert [fact.envelope if isinstance(fact, e.MessageSent) else fact.error for fact in opened(reader)] == [
        {"data": {"note": "a secret word"}},
        {"code": "agent_failed", "message": "a secret word"},
    ]
    reader.close()


def test_a_task_reads_the_same_whoever_opens_the_ledger_next(place: Place) -> None:
    calls = chain(5)
    for call in calls:
        on_loop(keep(place, (TASK, call), (OTHER, call), ("", e.EpochStarted(1, "x"))))
    reader = place.reader()
    assert opened(reader) == opened(reader, OTHER) == calls
    assert [entry.open() for entry in reader.entries_of([OTHER])[OTHER]] == calls
    assert reader.verify() == 15
    reader.close()


def sizes(calls: Sequence[e.ModelCalled], one: bool = True) -> tuple[int, int]:
    """The bytes that a ledger stores for these calls, and how many rows beside the entries."""
    sealer = Sealer(b"", lambda _: [])
    batches = [[call] for call in calls] if one else [list(calls)]
    sealed = [sealer.seal([(1, 1, 1, TASK, call.KIND, *call.split()) for call in batch]) for batch in batches]
    rows = {row.name: row for batch in sealed for row in batch.contents}
    entries = sum(len(entry.data) for batch in sealed for entry in batch.entries)
    return entries + sum(len(row.data) for row in rows.values()), len(rows)


@pytest.mark.parametrize("one", [True, False])
def test_a_conversation_takes_room_for_what_is_new_in_it(one: bool) -> None:
    ten, twenty, fifty, hundred = (sizes(chain(steps), one) for steps in (10, 20, 50, 100))
    per_step = (twenty[0] - ten[0]) / 10
    assert fifty[0] - ten[0] == pytest.approx(40 * per_step, rel=0.02)
    assert hundred[0] - ten[0] == pytest.approx(90 * per_step, rel=0.02)
    assert (fifty[1] - ten[1], hundred[1] - ten[1]) == (40 * 5, 90 * 5)  # two messages, the list's next link, request and response


def test_a_sealer_that_remembers_nothing_stores_no_message_twice(place: Place) -> None:
    calls = chain(6)
    for call in calls:
        on_loop(keep(place, (TASK, call)))
    reader = place.reader()
    assert opened(reader) == calls
    if isinstance(place, InMemory):
        names = len(place.disk.contents[TASK])
        assert names == sizes(calls)[1], "a piece has one name, whoever stores it"
    reader.close()


def test_a_task_that_is_looked_up_again_has_the_same_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of live tasks the newest are at hand, of those that have ended none."""
    monkeypatch.setattr("interlock.orchestrator.ledger.sealer._CIPHERS", 1)
    facts: list[tuple[str, e.Fact]] = [(task, call) for call in chain(3) for task in (TASK, OTHER)]
    end = e.TaskEnded("success", "", {"x": 1})

    async def write() -> None:
        ledger = place.open()
        ledger.open_epoch()
        for task, fact in (*facts, (TASK, end), (TASK, facts[0][1])):
            ledger.append(task, fact)
            await ledger.flush()
        for task, fact in ((OTHER, end), (OTHER, facts[0][1])):
            ledger.append(task, fact)
        await ledger.close()

    on_loop(write())
    reader = place.reader()
    assert opened(reader) == opened(reader, OTHER) == [*chain(3), end, chain(3)[0]]
    assert reader.verify() == 10
    reader.close()


def test_only_what_is_large_is_compressed() -> None:
    cipher = Cipher(bytes(range(64)))
    small, large = b"{" + b"a" * 1000, b"{" + b"a" * 10_000
    assert len(cipher.seal(small, bytes(12))) > 1000
    assert len(cipher.seal(large, bytes(12))) < 200
    assert [cipher.open(cipher.seal(one, bytes(12))) for one in (small, large, b"")] == [small, large, b""]


def test_what_was_changed_does_not_open() -> None:
    cipher, other = Cipher(bytes(range(64))), Cipher(bytes(64))
    sealed, (name, data) = cipher.seal(b"content", bytes(12)), cipher.keep(b"content")
    for open_it in (
        lambda: other.open(sealed),
        lambda: cipher.open(sealed[:-1] + bytes([sealed[-1] ^ 1])),
        lambda: cipher.open(b""),
        lambda: other.open_kept(name, data),
        lambda: cipher.open_kept(cipher.name(b"other"), data),
        lambda: cipher.open_kept(name[:12] + bytes(20), data),
    ):
        with pytest.raises(Unopened):
            open_it()
    assert cipher.open_kept(name, data) == b"content"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["messages", "choices", "message", "a", "$"]), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(values=st.lists(JSON, max_size=6))
def test_whatever_is_taken_apart_is_put_together_again(values: list[Any]) -> None:
    contents, cipher, stored = Contents(), Cipher(bytes(range(64))), dict[bytes, bytes]()
    names = []
    for value in values:
        name, rows = contents.take(TASK, cipher, value)
        assert all(stored.get(row.name, row.data) == row.data for row in rows)
        stored.update((row.name, row.data) for row in rows)
        names.append(name)
    for name, value in zip(names, values, strict=True):
        assert decode(put_together(name, lambda piece: cipher.open_kept(piece, stored[piece]))) == decode(encode(value))


# --- erased and pruned -----------------------------------------------------------------------------------------------------------

SECRET = "the one word that nobody may find"


def story(task: str) -> list[tuple[str, e.Fact]]:
    """A task that says its secret in every way there is."""
    error = {"code": "tool_failed", "message": SECRET, "facts": {"tool": SECRET}}
    facts: list[e.Fact] = [
        accepted(),
        e.MessageSent(1, f"dsp_{task}", "1-1", "pricing", [], "trusted", {"data": SECRET}),
        called(1, [{"role": "user", "content": SECRET}], {"role": "assistant", "content": SECRET}),
        e.EffectIntended("eff_2", f"dsp_{task}", "1-1", "write", "pay", {"to": SECRET}, SECRET, "key_a", deed="key_a"),
        e.EffectEnded("eff_2", f"dsp_{task}", "1-1", "pay", True, SECRET, 1.0),
        e.DeedSettled(f"key_{task}", "eff_2", f"dsp_{task}", "1-1", "pay", SECRET, True),
        e.DeedSettled("key_both", "eff_2", f"dsp_{task}", "1-1", "pay", SECRET, True),
        e.EffectRefused("eff_3", f"dsp_{task}", "1-1", "pay", error),
        e.ItemAsked(f"itm_{task}", "approval", "finance", SECRET, 99, digest=SECRET, details={"arguments": SECRET}),
        e.ItemDecided(f"itm_{task}", "approved", "bob", SECRET),
        e.ItemAsked(f"itm_{task}_2", "question", "finance", SECRET, 99),
        e.TaskEnded("failed", SECRET, {"said": SECRET}, "a.x", "1.0.0", error),
    ]
    return [(task, fact) for fact in facts]


def test_an_erased_task_is_silent_and_its_ledger_whole(place: Place) -> None:
    on_loop(keep(place, *story(TASK), *story(OTHER)))
    with closing(place.reader()) as reader:
        before = [(entry.data, entry.hash) for entry in reader.all_entries()]
        others = opened(reader, OTHER)
    on_loop(keep(place, (TASK, e.TaskErased("ann", "asked to"))))
    reader = place.reader()
    assert [(entry.data, entry.hash) for entry in reader.all_entries()][:-1] == before, "entries never change"
    assert reader.verify() == 25
    facts = opened(reader)
    assert SECRET not in repr(facts)
    assert {entry.gone for entry in reader.entries(TASK)[:-1]} == {"erased"}
    call = next(fact for fact in facts if isinstance(fact, e.ModelCalled))
    assert (call.request, call.response, call.usage) == (e.ERASED, e.ERASED, {"input_tokens": 10, "output_tokens": 5})
    end = next(fact for fact in facts if isinstance(fact, e.TaskEnded))
    assert (end.outcome, end.reason, end.result) == ("failed", e.ERASED, e.ERASED)
    assert end.error == {"code": "tool_failed", "message": "erased", "facts": {}}
    row = reader.task(TASK)
    assert row is not None
    assert (row.outcome, row.reason) == ("failed", "erased")
    assert SECRET not in repr([item for item in reader.inbox(open_only=False) if item.task == TASK])
    known, both = reader.deed(f"key_{TASK}"), reader.deed("key_both")
    assert known is not None
    assert both is not None
    assert known.state == "done"
    assert both.task == OTHER, "what another task has done since stays as it is"
    assert opened(reader, OTHER) == others
    assert SECRET in repr(others)
    reader.close()


def test_what_comes_after_an_erasure_is_not_kept(place: Place) -> None:
    late = called(7, [{"role": "user", "content": SECRET}], {"role": "assistant", "content": SECRET})
    refused = e.ReplyRefused("dsp_1", "1-1", {"code": "stale_attempt", "message": SECRET, "facts": {}})
    on_loop(keep(place, *story(TASK), (TASK, e.TaskErased("ann", "asked to")), (TASK, refused)))
    on_loop(keep(place, (TASK, late), (TASK, e.ItemAsked("itm_9", "question", "x", SECRET, 9))))
    reader = place.reader()
    assert SECRET not in repr(opened(reader))
    assert SECRET not in repr(reader.inbox(open_only=False))
    assert reader.verify() == 16
    reader.close()


def test_what_is_pruned_is_what_model_calls_said_and_no_more(place: Place) -> None:
    on_loop(keep(place, *story(TASK), *story(OTHER), (TASK, e.ContentPruned("ann", 184))))
    reader = place.reader()
    facts = opened(reader)
    call = next(fact for fact in facts if isinstance(fact, e.ModelCalled))
    assert (call.request, call.response, call.model) == (e.PRUNED, e.PRUNED, "m")
    end = next(fact for fact in facts if isinstance(fact, e.TaskEnded))
    assert end.result == {"said": SECRET}
    assert next(fact for fact in opened(reader, OTHER) if isinstance(fact, e.ModelCalled)).response is not None
    assert reader.verify() == 25
    reader.close()


def test_what_a_model_says_after_a_pruning_is_kept(place: Place) -> None:
    """Though its pieces are partly those that were pruned, and it comes in the same batch."""
    first, second, third = chain(3)
    on_loop(keep(place, (TASK, first), (TASK, e.ContentPruned("ann", 30)), (TASK, second), (OTHER, first), (TASK, third)))
    reader = place.reader()
    pruned, _, *kept = opened(reader)
    assert (pruned.request, pruned.response) == (e.PRUNED, e.PRUNED)
    assert kept == [second, third]
    assert opened(reader, OTHER) == [first]
    assert reader.verify() == 5
    reader.close()
    on_loop(keep(place, (TASK, e.ContentPruned("ann", 30))))
    reader = place.reader()
    assert {fact.response for fact in opened(reader) if isinstance(fact, e.ModelCalled)} == {e.PRUNED}
    assert reader.verify() == 6
    reader.close()


def test_an_item_that_is_decided_after_its_task_was_erased(place: Place) -> None:
    on_loop(keep(place, (TASK, accepted()), (TASK, asked("itm_1")), (TASK, e.TaskErased("ann", "why")), (TASK, decided("itm_1"))))
    reader = place.reader()
    (item,) = reader.inbox(open_only=False)
    assert (item.text, item.details, item.note, item.decision) == ("erased", '"erased"', "erased", "approved")
    assert reader.verify() == 4
    reader.close()


def test_an_erasure_in_the_middle_of_a_batch_holds_for_the_rest_of_it() -> None:
    async def main() -> None:
        place = InMemory()
        await keep(place, (TASK, accepted()), (TASK, e.TaskErased("ann", "why")), (TASK, accepted()))
        assert [entry.gone for entry in place.disk.entries(TASK)] == ["erased", "", "erased"]

    asyncio.run(main())
