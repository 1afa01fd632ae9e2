"""Errors travel as data and come back as themselves; each is a sentence that fits its facts."""

import pickle
from string import Formatter

import pytest

from interlock.schemas import errors
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import InterlockError, from_wire

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, InterlockError)]


def _example(cls: type[InterlockError]) -> InterlockError:
    return cls(**{name: f"<{name}>" for _, name, _, _ in Formatter().parse(cls.template) if name})


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_crosses_a_process_as_data(cls: type[InterlockError]) -> None:
    error = _example(cls)
    for copy in (from_wire(decode(encode(error.to_wire()))), pickle.loads(pickle.dumps(error))):
        assert type(copy) is cls
        assert (str(copy), copy.facts) == (str(error), error.facts)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls.template != InterlockError.template])
def test_a_message_is_made_of_sentences(cls: type[InterlockError]) -> None:
    assert cls.template.rstrip("}").endswith((".", "remedy"))


def test_a_fact_that_is_a_sentence_brings_no_second_full_stop() -> None:
    inner = errors.ToolFailed(tool="t", problem="it broke...", remedy="See ../log.")
    assert str(inner) == "Tool t failed: it broke.... See ../log."
    outer = errors.AgentFailed(agent="a", contract="c 1.0.0", problem=str(inner))
    assert " See ../log. The workflow may catch" in str(outer)


def test_codes_are_unique_and_never_taken_twice() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    with pytest.raises(TypeError, match="already taken by Fenced"):
        type("Other", (InterlockError,), {"code": "fenced"})


def test_facts_are_attributes() -> None:
    error = errors.Fenced(task="tsk_1", why="killed by an operator")
    assert (error.task, error.why) == ("tsk_1", "killed by an operator")
    with pytest.raises(AttributeError):
        _ = error.other


def test_an_unknown_code_keeps_its_message() -> None:
    error = from_wire({"code": "from_the_future", "message": "The moon is full.", "facts": {"moon": 1}})
    assert type(error) is InterlockError
    assert str(error) == "The moon is full."
