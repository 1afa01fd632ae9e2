"""Rates: how much of a model's requests and tokens a minute the whole bus has used, and whose turn is next. Pure: no clock, no disk.

In any sixty seconds no more is let through than the operator has declared: the worst case of what is under way plus what the rest came to.
Who waits is let through in turns: of tenants, of their task types, of their tasks. So one tenant's thousand tasks, or one task's thousand
calls, keep another's single one waiting for a turn and no longer. Whoever does not ask again is forgotten. Where an endpoint asks to be
left alone (`Retry-After`) all wait, and then it is approached slowly: one call in the first second, two in the next, four, and so on.

Nothing of it is durable. A new supervisor begins with an unused minute: what was sent before it does not know, and an endpoint that finds
it too much says so, does nothing, and is heard.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from interlock.schemas.turns import Turns

MINUTE = 60.0
_LEAST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
Account = tuple[str, str]
"""A task's type and tenant."""

_PATIENCE = 15.0
"""So long after the moment for which a call was told to come again it counts as gone."""


@dataclass(slots=True)
class _Ticket:
    id: str
    task: str
    account: Account
    tokens: int
    gone: float = 0.0


@dataclass(slots=True)
class _Sent:
    at: float
    id: str
    tokens: int


@dataclass(slots=True)
class _Lane:
    """One model at one endpoint. `sent` within the last minute, in order; `turns` are of the tasks that wait, `waiting` their calls in
    order; `shut` until then."""

    requests: int | None = None
    tokens: int | None = None
    sent: deque[_Sent] = field(default_factory=deque)
    known: dict[str, _Sent] = field(default_factory=dict)
    used: int = 0
    turns: Turns[str] = field(default_factory=Turns)
    waiting: dict[str, deque[_Ticket]] = field(default_factory=dict)
    tickets: dict[str, _Ticket] = field(default_factory=dict)
    shut: float = 0.0
    slow: bool = False
    since: int = 0

    def forget(self, now: float) -> None:
        while self.sent and self.sent[0].at + MINUTE <= now:
            old = self.sent.popleft()
            self.used -= old.tokens
            del self.known[old.id]

    def room(self, ticket: _Ticket, now: float) -> float:
        """Seconds until there may be room for it; 0 where there is."""
        if now < self.shut:
            return self.shut - now
        if self.slow and self.since >= 2 ** min(int(now - self.shut) + 1, 30) - 1:
            return 1.0
        full = self.requests is not None and len(self.sent) >= self.requests
        full = full or (self.tokens is not None and self.used + self.bounded(ticket.tokens) > self.tokens)
        return max(_LEAST_PAUSE, min(_LONGEST_PAUSE, self.sent[0].at + MINUTE - now)) if full and self.sent else 0.0

    def bounded(self, tokens: int) -> int:
        """What alone is more than a minute's tokens takes a whole minute's."""
        return tokens if self.tokens is None else min(tokens, self.tokens)

    def advance(self, now: float) -> None:
        """Let through whoever's turn it is, as long as there is room."""
        self.forget(now)
        while self.turns:
            tickets = self.waiting[self.turns.first()]
            while tickets and tickets[0].gone < now:
                del self.tickets[tickets.popleft().id]
            if tickets and self.room(tickets[0], now) > 0:
                return
            task = self.turns.take()
            if tickets:
                ticket = tickets.popleft()
                del self.tickets[ticket.id]
                self._let_through(ticket, now)
            if tickets:
                self.turns.put(task, task, *tickets[0].account)
            else:
                del self.waiting[task]
        if self.slow:
            self.slow = False

    def wait(self, ticket: _Ticket) -> None:
        """Let a call wait for its task's turn."""
        self.tickets[ticket.id] = ticket
        if ticket.task not in self.waiting:
            self.waiting[ticket.task] = deque()
            self.turns.put(ticket.task, ticket.task, *ticket.account)
        self.waiting[ticket.task].append(ticket)

    def leave(self, id: str) -> None:
        """Let go of a call that is not made: others have its place in the line, or its turn."""
        ticket, sent = self.tickets.pop(id, None), self.known.pop(id, None)
        if ticket is not None:
            self.waiting[ticket.task].remove(ticket)  # the task leaves with its turn
        if sent is not None:
            self.sent.remove(sent)
            self.used -= sent.tokens
            self.since = max(0, self.since - 1)

    def _let_through(self, ticket: _Ticket, now: float) -> None:
        sent = self.known[ticket.id] = _Sent(now, ticket.id, self.bounded(ticket.tokens))
        self.sent.append(sent)
        self.used += sent.tokens
        self.since += 1


class Rates:
    """By lane: a model at an endpoint."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def turn(
        self, lane: str, id: str, task: str, account: Account, tokens: int, limits: tuple[int | None, int | None], now: float
    ) -> float:
        """0 where this call, of at most so many tokens, goes now; else the seconds after which it shall ask again. `limits`: the requests
        and tokens a minute that are declared."""
        one = self._lanes.setdefault(lane, _Lane())
        one.requests, one.tokens = limits
        one.forget(now)
        if id in one.known:
            return 0.0
        ticket = one.tickets.get(id)
        if ticket is None:
            ticket = _Ticket(id, task, account, tokens)
            one.wait(ticket)
        ticket.gone = now + _PATIENCE
        one.advance(now)
        if id in one.known:
            return 0.0
        wait = max(_LEAST_PAUSE, one.room(ticket, now))
        ticket.gone = now + wait + _PATIENCE
        return wait

    def came_to(self, lane: str, id: str, tokens: int) -> None:
        """What a call that was let through came to in fact."""
        one = self._lanes.get(lane)
        sent = one.known.get(id) if one is not None else None
        if one is not None and sent is not None:
            one.used += tokens - sent.tokens
            sent.tokens = tokens

    def leave(self, lane: str, id: str) -> None:
        """A call that waits, or was let through, is not made."""
        one = self._lanes.get(lane)
        if one is not None:
            one.leave(id)

    def shut(self, lane: str, seconds: float, now: float) -> None:
        """The endpoint asks to be left alone for so long."""
        one = self._lanes.setdefault(lane, _Lane())
        one.shut, one.slow, one.since = max(one.shut, now + seconds), True, 0

    def shown(self, now: float) -> list[dict[str, Any]]:
        """Lanes of which something was used in the last minute, or is waited for."""
        rows = []
        for name, one in self._lanes.items():
            one.forget(now)
            if one.sent or one.tickets or now < one.shut:
                row = {"lane": name, "requests": len(one.sent), "of_requests": one.requests, "tokens": one.used, "of_tokens": one.tokens}
                rows.append({**row, "waiting": len(one.tickets), "shut_seconds": round(max(0.0, one.shut - now), 1)})
        return rows
