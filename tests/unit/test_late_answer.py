"""Whoever answers after a delivery has ended gets a sentence, and the report still comes."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from interlock.cli.delivery_run import _watch
from interlock.cli.narration import Narration
from interlock.schemas.entries import ItemAsked
from interlock.schemas.errors import UnknownItem


class Shown:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def measure(self, used: Any) -> None:
        pass

    def tell(self, told: Any) -> None:
        self.lines.append(str(told))

    def paused(self) -> Any:
        return nullcontext()


def test_an_answer_that_comes_too_late_is_said_to() -> None:
    def approve(item: str, note: str, by: str | None) -> None:
        raise UnknownItem(item=item)

    asked = ItemAsked(item="itm_1", kind="approval", to="ann", text="deploy?", expires=0)
    task: Any = SimpleNamespace(events=lambda: [SimpleNamespace(fact=asked)], used=dict)
    bus: Any = SimpleNamespace(inbox=SimpleNamespace(approve=approve))
    answer = SimpleNamespace(approve=True, said="approved", note="", by="ann")
    order: Any = SimpleNamespace(answerer=SimpleNamespace(answer=lambda fact: answer))
    shown: Any = Shown()
    _watch(bus, task, order, Narration(), shown)
    assert "too late and changes nothing" in shown.lines[-1]
