"""Limits that tasks share: the names of scopes and periods, and what may be said of them.

A scope is the whole bus (`bus`), a task type (`type:NAME`) or a tenant (`tenant:NAME`); `type:*` and `tenant:*` stand for each of them. A
period is an hour, a day or a month of the UTC calendar; without one a limit holds for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.schemas.budget import MESSAGES, SECONDS, WORKING, Amount, asked_amounts
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.ids import is_tenant

BUS = "bus"
PERIODS = ("", "hour", "day", "month")
OF_ONE_TASK = (MESSAGES, SECONDS, WORKING)
"""Meters that are one task's own."""

_TYPE, _TENANT, _EACH = "type:", "tenant:", "*"


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """What a scope may use within a period (empty: ever), by meter."""

    scope: str
    per: str
    limits: dict[str, Amount]


def scope_of_type(type: str) -> str:
    return _TYPE + type


def scope_of_tenant(tenant: str) -> str:
    return _TENANT + tenant


def whole(scope: str) -> str:
    """The scope that stands for each of its kind; the bus is its own."""
    kind, colon, _ = scope.partition(":")
    return f"{kind}:{_EACH}" if colon else scope


def asked_limits(scope: str, per: str, limits: Mapping[str, Any]) -> dict[str, Amount | None]:
    """Limits as somebody asks for them; none lifts one. `BadDeclaration` for what is no scope, no period or no limit of one."""
    what = f"limit {scope}"
    if scope != BUS and not _names(scope):
        remedy = "Name bus, type:NAME or tenant:NAME, with * for each of them."
        raise BadDeclaration(what=what, problem=f"{scope[:100]!r} is no scope", remedy=remedy)
    if per not in PERIODS:
        raise BadDeclaration(what=what, problem=f"{per!r} is no period", remedy="Name hour, day or month, or none of them.")
    if not limits:
        raise BadDeclaration(what=what, problem="it limits nothing", remedy="Name a meter, as in usd=100.")
    for meter in limits:
        if meter in OF_ONE_TASK:
            raise BadDeclaration(what=what, problem=f"{meter} are one task's own", remedy="Limit them in the workflow's budget.")
    asked = asked_amounts({meter: amount for meter, amount in limits.items() if amount is not None})
    return {meter: asked.get(meter) for meter in limits}


def is_scope(text: str) -> bool:
    """Whether somebody means a scope and not a task."""
    return text == BUS or text.startswith((_TYPE, _TENANT))


def _names(scope: str) -> bool:
    if scope.startswith(_TENANT):
        name = scope.removeprefix(_TENANT)
        return name == _EACH or is_tenant(name)
    return scope.startswith(_TYPE) and 0 < len(scope) - len(_TYPE) <= 200 and scope.isprintable()
