"""Labels are a semilattice in which trust only goes one way."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.labels import TRUSTED, Label, decode_label, untrusted

SOURCES = st.sets(st.sampled_from(["tool:fetch", "tool:mail", "field:note", "agent:coding"]), max_size=4)
LABELS = st.one_of(st.just(TRUSTED), SOURCES.map(lambda sources: untrusted(*sources)))


@given(LABELS, LABELS)
def test_join_is_commutative(a: Label, b: Label) -> None:
    assert a.join(b) == b.join(a)


@given(LABELS, LABELS, LABELS)
def test_join_is_associative(a: Label, b: Label, c: Label) -> None:
    assert a.join(b).join(c) == a.join(b.join(c))


@given(LABELS)
def test_join_is_idempotent_and_trusted_changes_nothing(label: Label) -> None:
    assert label.join(label) == label == label.join(TRUSTED) == TRUSTED.join(label)


@given(st.lists(LABELS))
def test_trust_never_comes_back_and_no_source_is_forgotten(labels: list[Label]) -> None:
    joined = reduce(Label.join, labels, TRUSTED)
    assert joined.trusted == all(label.trusted for label in labels)
    assert set(joined.sources) == {source for label in labels for source in label.sources}


@given(LABELS)
def test_a_label_survives_the_wire(label: Label) -> None:
    assert decode_label(label.encode()) == label


@given(st.text().filter(lambda text: text != "trusted"))
def test_in_doubt_nothing_is_trusted(text: str) -> None:
    assert not decode_label(text).trusted
