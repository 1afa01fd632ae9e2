"""What a model may be asked in a minute, as the operator declares it and as its endpoint says.

A file named by INTERLOCK_RATES (`{model: {"requests": 500, "tokens": 200000}}`, either may be left out; `"*"` is any other model) says how
much of each a minute. Each try of a call asks the supervisor for a turn: so what one gateway is told by an endpoint holds for all of them.
"""

from typing import Any, NamedTuple

from interlock.actors.models.declared import Declared, above_zero

_LONGEST_PAUSE = 5.0
"""Who waits for the rate alone asks again after so long at the latest; only an endpoint asks for more."""


class Rate(NamedTuple):
    """Requests and tokens a minute; `None` where there is no limit."""

    requests: int | None
    tokens: int | None


def said(rate: Rate, wait: float) -> str:
    """A rate in words, with what to do about it; `wait`: the seconds until there may be room."""
    limits = [f"{value} {name}" for name, value in zip(Rate._fields, rate, strict=True) if value is not None]
    if not limits or wait > _LONGEST_PAUSE:
        return f"its endpoint asked to be left alone, for {wait:.0f} s more"
    return f"all tasks share {' and '.join(limits)} a minute of it (INTERLOCK_RATES; raise that where the endpoint allows more)"


class Rates:
    """Those of one gateway; `declared` as `read_rates` gives them."""

    def __init__(self, declared: dict[str, Rate] | None = None) -> None:
        self._declared = declared or {}

    def of(self, model: str) -> Rate:
        """The limits under which the model is asked."""
        return self._declared.get(model) or self._declared.get("*") or Rate(None, None)


def read_rates(path: str) -> dict[str, Rate]:
    """The limits in the file that INTERLOCK_RATES names; none for an empty path, `BadDeclaration` for a file that is wrong."""
    file = Declared("INTERLOCK_RATES", path, 'Write {"MODEL": {"requests": 500, "tokens": 200000}}: how much of each in a minute.')

    def rate(model: str, limits: Any) -> Rate:
        if not isinstance(limits, dict) or not limits or not set(limits) <= set(Rate._fields):
            raise file.bad(f"model {model!r} has not `requests`, `tokens` or both")
        for name, value in limits.items():
            if not above_zero(value):
                raise file.bad(f"{name!r} of model {model!r} is {value!r}, which is no whole number above zero")
        return Rate(limits.get("requests"), limits.get("tokens"))

    return file.read(rate)
