"""The root of all errors: each says what happened, what it means and what to do next.

A class's `template` is its message; the facts that fill it travel as fields (`error.facts`, and as attributes), so an
error crosses processes as data (`to_wire`, `from_wire`) and never as a pickle of somebody's traceback.
"""

import re
from typing import Any, ClassVar

_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?=\s|$)")

_BY_CODE: dict[str, type["InterlockError"]] = {}


class InterlockError(Exception):
    """Root of every error that Interlock raises on purpose. `code` is stable; `facts` are JSON values."""

    code: ClassVar[str] = "error"
    template: ClassVar[str] = "{detail}"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        # A fact may be a sentence, with a full stop of its own before the template's.
        super().__init__(_TWO_STOPS.sub(".", self.template.format(**facts)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = cls.__doc__ or cls.template
        twin = _BY_CODE.setdefault(cls.code, cls)
        if twin is not cls and twin.__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {cls.code!r} is already taken by {twin.__name__}")

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return from_wire, (self.to_wire(),)

    def to_wire(self) -> dict[str, Any]:
        """`{"code", "message", "facts"}`: JSON that `from_wire` turns back into the same error."""
        return {"code": self.code, "message": str(self), "facts": self.facts}


class Refused(InterlockError):
    """The bus would not do it; nothing was changed."""

    code = "refused"


def from_wire(wire: dict[str, Any]) -> InterlockError:
    """The error that `to_wire` described; an unknown code becomes a plain `InterlockError` with its message."""
    cls = _BY_CODE.get(wire["code"])
    if cls is None:
        return InterlockError(detail=wire["message"])
    return cls(**wire["facts"])
