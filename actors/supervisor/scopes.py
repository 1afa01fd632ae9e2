"""Scopes: what all tasks of a type, of a tenant or of the bus may use together, ever or within an hour, a day or a month (UTC).

Pure, like the meters that charge them. A limit is kept per scope and period, from the app's declaration or an operator's word, and a
counter per scope, period and window: only where there is a limit, from then on. An effect belongs to the windows in which it was reserved,
however late it ends, so what is used and held in a window never passes its limit. What forgotten tasks used is carried by the counters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from interlock.actors.supervisor.amounts import add, bounded, plus, take
from interlock.actors.supervisor.journal import Change
from interlock.schemas.budget import Amount, Amounts, parse_amounts
from interlock.schemas.limits import BUS, PERIODS, scope_of_tenant, scope_of_type, whole

_WINDOWS: dict[str, str] = {"": "", "hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
_SPANS = {"hour": 3_600_000_000, "day": 86_400_000_000, "month": 31 * 86_400_000_000}
_KNOWN_AT_MOST = 10_000

Limits = dict[tuple[str, str], dict[str, Amount | None]]
"""By scope and period, per meter; none where an operator has lifted the limit that would hold."""


class Part(NamedTuple):
    """One scope and period that limits a task, and what it allows."""

    scope: str
    per: str
    limits: Mapping[str, Amount]


@dataclass(slots=True)
class Counter:
    """What was used and is held in one window of a scope; `carried` of it by tasks that are forgotten."""

    used: dict[str, Amount] = field(default_factory=dict)
    reserved: dict[str, Amount] = field(default_factory=dict)
    carried: dict[str, Amount] = field(default_factory=dict)


class Scopes:
    """The limits and counters of all scopes. `expired` collects the counters whose windows are over; whoever makes use of it empties it."""

    def __init__(self) -> None:
        self.expired: list[str] = []
        self.counters: dict[str, Counter] = {}
        self._app: Limits = {}
        self._operator: Limits = {}
        self._parts: dict[tuple[str, str], tuple[Part, ...]] = {}  # as `of` found them

    def of(self, type: str, tenant: str) -> tuple[Part, ...]:
        """What limits a task of that type and tenant; nothing where nothing does."""
        if not self._app and not self._operator:
            return ()
        parts = self._parts.get((type, tenant))
        if parts is None:
            if len(self._parts) >= _KNOWN_AT_MOST:
                self._parts.clear()
            parts = self._parts[type, tenant] = tuple(self._found(type, tenant))
        return parts

    def _found(self, type: str, tenant: str) -> list[Part]:
        return [
            Part(scope, per, limits)
            for scope in (scope_of_type(type), scope_of_tenant(tenant), BUS)
            for per in PERIODS
            if (limits := self.limits(scope, per))
        ]

    def limits(self, scope: str, per: str) -> dict[str, Amount]:
        """What holds for a scope: a limit of its own before that of each (`tenant:*`), an operator's word before the app's."""
        found: dict[str, Amount | None] = {}
        for name in (whole(scope), scope):
            for said in (self._app, self._operator):
                found.update(said.get((name, per), {}))
        return {meter: amount for meter, amount in sorted(found.items()) if amount is not None}

    def declared(self, limits: Sequence[Sequence[Any]]) -> list[Change]:
        """What the app declares from now on, as `(scope, per, limits)`; nothing to journal where that is no change."""
        new = [[scope, per, dict(sorted(bounded(amounts).items()))] for scope, per, amounts in limits]
        old = [[scope, per, dict(amounts)] for (scope, per), amounts in self._app.items()]
        return [] if new == old else [Change("limits", "", {"limits": new})]

    def ordered(self, scope: str, per: str, limits: Mapping[str, Amount | None], by: str, why: str) -> list[Change]:
        """An operator's word, which goes before what the app declares."""
        amounts = {meter: None if amount is None else bounded({meter: amount})[meter] for meter, amount in limits.items()}
        return [Change("limit", "", {"scope": scope, "per": per, "limits": amounts, "by": by, "why": why})]

    def apply(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "limits":
                self._app = {(scope, per): dict(parse_amounts(amounts)) for scope, per, amounts in data["limits"]}
                self._parts.clear()
            case "limit":
                said = self._operator.setdefault((data["scope"], data["per"]), {})
                for meter, amount in data["limits"].items():
                    said[meter] = None if amount is None else parse_amounts({meter: amount})[meter]
                self._parts.clear()
            case "carried":
                counter, carried = self.counter(name), parse_amounts(data["used"])
                take(counter.used, counter.carried)
                add(counter.used, carried)
                counter.carried = carried

    def counter(self, key: str) -> Counter:
        known = self.counters.get(key)
        if known is None:
            known = self.counters[key] = Counter()
        return known

    def carry(self, used: Sequence[Mapping[str, Amounts]]) -> list[Change]:
        """Take over what forgotten tasks used, per counter: what to journal in the same moment in which their rows go."""
        touched: dict[str, Counter] = {}
        for amounts_of in used:
            for key, amounts in amounts_of.items():
                if (counter := self.counters.get(key)) is not None:
                    add(counter.carried, amounts)
                    touched[key] = counter
        return [Change("carried", key, {"used": dict(counter.carried)}) for key, counter in touched.items()]

    def expire(self, now: int) -> None:
        """Let go of windows that are over for as long as they were, so that no clock comes back to them, and in which nothing is held."""
        gone = [key for key, counter in self.counters.items() if _is_over(key, now) and not any(counter.reserved.values())]
        for key in gone:
            del self.counters[key]
        self.expired += gone

    def knows(self, key: str) -> bool:
        return key in self.counters

    def nearly_used(self, now: int) -> list[dict[str, Any]]:
        """Limits of which four fifths or more are used or held now: `scope`, `per`, `meter`, `used` (and held), `limit`."""
        return [
            {"scope": row["scope"], "per": row["per"], "meter": meter, "used": str(plus(used, reserved)), "limit": str(limit)}
            for row in self.shown(now)
            for meter, (used, reserved, limit) in row["meters"].items()
            if limit is not None and plus(used, reserved) * 5 >= limit * 4
        ]

    def shown(self, now: int) -> list[dict[str, Any]]:
        """Every limit that holds now with what is used of it; of `tenant:*` and `type:*` also those who have used anything."""
        named = dict.fromkeys([*self._app, *self._operator])
        seen = {(scope, per) for scope, per, window in map(parts_of, self.counters) if window == window_of(per, now)}
        rows = []
        for scope, per in sorted(seen | named.keys(), key=lambda one: (one[0] != BUS, one[0], PERIODS.index(one[1]))):
            counter = self.counters.get(key_of(scope, per, now)) or Counter()
            limits = self.limits(scope, per)
            meters = {m: (counter.used.get(m, 0), counter.reserved.get(m, 0), limits.get(m)) for m in sorted({*limits, *counter.used})}
            if limits:
                rows.append({"scope": scope, "per": per, "window": window_of(per, now), "meters": meters})
        return rows


def key_of(scope: str, per: str, now: int) -> str:
    return f"{scope}/{per}/{window_of(per, now)}"


def parts_of(key: str) -> tuple[str, str, str]:
    """Scope, period and window of a counter."""
    scope, per, window = key.rsplit("/", 2)
    return scope, per, window


_last: dict[str, tuple[int, int, str]] = {}  # per period: from when to when which window


def window_of(per: str, now: int) -> str:
    """The window of a moment (microseconds), by the UTC calendar; empty where the period is for ever."""
    if not per:
        return ""
    begin, end, window = _last.get(per, (0, 0, ""))
    if not begin <= now < end:
        # Every window begins at a full hour.
        hour = now - now % _SPANS["hour"]
        window = datetime.fromtimestamp(hour // 1_000_000, UTC).strftime(_WINDOWS[per])
        _last[per] = (hour, hour + _SPANS["hour"], window)
    return window


def _is_over(key: str, now: int) -> bool:
    _, per, window = parts_of(key)
    return bool(per) and window < window_of(per, now - _SPANS[per])
