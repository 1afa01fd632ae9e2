"""What an operator declares of models, in JSON files, by model: one way to read such a file, and to refuse one that is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from interlock.schemas.canonical import decode
from interlock.schemas.errors import BadDeclaration

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Declared:
    """The file at `path` that the environment variable names (empty: none was named); `remedy` says how it is written."""

    variable: str
    path: str
    remedy: str

    def read(self, one: Callable[[str, Any], T]) -> dict[str, T]:
        """What `one(model, value)` makes of each; `BadDeclaration` for a file that is wrong."""
        if not self.path:
            return {}
        try:
            models = decode(Path(self.path).read_bytes())
        except (OSError, ValueError) as error:
            raise self.bad(f"it cannot be read as JSON ({error})") from None
        if not isinstance(models, dict):
            raise self.bad("it is not a JSON object")
        return {model: one(model, value) for model, value in models.items()}

    def bad(self, problem: str) -> BadDeclaration:
        return BadDeclaration(what=f"{self.variable}={self.path}", problem=problem, remedy=self.remedy)


def above_zero(value: object) -> bool:
    """Whether it is a whole number above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
