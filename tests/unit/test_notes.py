"""Signed notes and checkpoints: the examples of the format's own documents, and everything that must not pass for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.orchestrator.ledger.notes import BadNote, Checkpoint, PublicKey, SigningKey, history

SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"

KEY = SigningKey("example.com/log", bytes(range(32)))
HEAD = Checkpoint("example.com/log", 1200, bytes(range(32, 64)))


def test_the_note_of_the_reference_implementation() -> None:
    key = SigningKey.parse(SECRET)
    assert str(key.public) == PUBLIC
    assert key.text() == SECRET
    assert key.sign(TEXT) == f"{TEXT}\n{SIGNATURE}"
    assert PublicKey.parse(PUBLIC).open(f"{TEXT}\n{SIGNATURE}") == TEXT


def test_signatures_of_others_are_left_out_of_account() -> None:
    other = SigningKey.generate()
    theirs = other.sign(TEXT).partition("\n\n")[2]
    assert PublicKey.parse(PUBLIC).open(f"{TEXT}\n{theirs}{SIGNATURE}") == TEXT
    with pytest.raises(BadNote, match="not signed by PeterNeumann"):
        PublicKey.parse(PUBLIC).open(f"{TEXT}\n{theirs}")


def test_a_checkpoint_comes_back_as_it_was_signed() -> None:
    note = KEY.sign(HEAD.text())
    assert note.startswith("example.com/log\n1200\nICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n\n— example.com/log ")
    assert KEY.public.checkpoint(note) == HEAD
    assert KEY.public.checkpoint(KEY.sign(HEAD.text() + "an extension\n")) == HEAD


@given(st.data())
def test_a_note_with_any_other_sign_in_it_is_refused(data: st.DataObject) -> None:
    note = KEY.sign(HEAD.text())
    at = data.draw(st.integers(0, len(note) - 1))
    sign = data.draw(st.characters(codec="utf-8").filter(lambda sign: sign != note[at]))
    with pytest.raises(BadNote):
        KEY.public.checkpoint(note[:at] + sign + note[at + 1 :])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not signed"),
        (HEAD.text(), "not signed"),
        (f"{HEAD.text()}\n", "not signed"),
        (f"{HEAD.text()}\n— example.com/log\n", "signature lines cannot be read"),
        (KEY.sign("example.com/log\n1200\n"), "no checkpoint"),
        (KEY.sign("example.com/log\n01200\nICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n"), "no checkpoint"),
        (KEY.sign("example.com/log\n1200\nICEi\n"), "no checkpoint"),
        (KEY.sign(HEAD._replace(origin="example.com/other").text()), "speaks of another ledger"),
    ],
)
def test_what_is_no_checkpoint_of_this_key(text: str, problem: str) -> None:
    with pytest.raises(BadNote, match=problem):
        KEY.public.checkpoint(text)


@pytest.mark.parametrize(
    "text",
    ["", "name", PUBLIC.replace("c74f", "c74e"), PUBLIC.replace("Peter", "Pe ter"), PUBLIC[:-4], SECRET, PUBLIC.replace("ARp", "BRp")],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(BadNote):
        PublicKey.parse(text)
    with pytest.raises(BadNote):
        SigningKey.parse(text.replace("c74f20a3", "c74f20a4"))


def test_a_history_is_its_notes_and_what_is_not_one_is_named_by_its_line() -> None:
    notes = [KEY.sign(HEAD._replace(size=size).text()) for size in (1, 2, 3)]
    whole = "".join(f"{note}\n" for note in notes)
    assert [(one.line, one.note) for one in history(whole)] == list(zip((1, 7, 13), notes, strict=True))
    assert list(history("")) == []
    unsigned = f"{notes[0]}\n{HEAD.text()}\n{notes[1]}\n"
    assert [(one.line, _opens(one.note)) for one in history(unsigned)] == [(1, True), (7, False), (11, True)]
    lost_text = f"{notes[0]}\n{notes[1].partition(chr(10) * 2)[2]}\n{notes[2]}\n"
    assert [(one.line, _opens(one.note)) for one in history(lost_text)] == [(1, True), (7, False), (9, True)]
    for end in range(len(whole) - len(notes[2]), len(whole) - 2):
        torn = [_opens(one.note) for one in history(whole[:end])]
        assert torn[:2] == [True, True]
        assert torn[2:] in ([False], [False, False])


def _opens(note: str) -> bool:
    try:
        KEY.public.checkpoint(note)
    except BadNote:
        return False
    return True
