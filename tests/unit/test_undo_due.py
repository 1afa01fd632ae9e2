"""Which undos are due: what happened decides, whenever it became known."""

import pytest

from interlock.orchestrator.ledger.undos import due
from interlock.schemas import entries as e

INTENDED = e.EffectIntended(
    effect="f", dispatch="d", attempt="1-1", kind="write", tool="book", args={}, digest="", key="k", system="s", deed="x", replica="r"
)
UNKNOWN = e.EffectUnknown("f", "d", "1-1", "book", "lost", "probe", "x", "r", "")
NOT_HAPPENED = e.EffectProbed("f", "d", "1-2", "book", "not_happened", None)
DENIED = (
    e.ItemAsked(item="i", kind="unknown", to="ann", text="Did it happen?", expires=0, effect="f"),
    e.ItemDecided(item="i", decision="denied", by="ann"),
)
LATE = e.EffectEnded("f", "d", "1-1", "book", True, {}, 0.0)
REGISTERED = e.UndoRegistered(1, "cancel", "book", {})


@pytest.mark.parametrize("denial", [(NOT_HAPPENED,), DENIED], ids=["a probe", "a person"])
def test_a_deed_that_is_said_not_to_have_happened_is_undone_once_its_late_end_says_that_it_did(denial: tuple[e.Fact, ...]) -> None:
    said = [INTENDED, UNKNOWN, *denial]
    assert due([*said, REGISTERED]) == []
    assert due([*said, LATE, REGISTERED]) == [REGISTERED]


def test_an_answer_from_the_record_of_another_deed_is_no_deed_of_this_task() -> None:
    assert due([REGISTERED, e.EffectEnded("f", "d", "1-1", "book", True, {}, 0.0, same_as="other")]) == []
