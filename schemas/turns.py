"""Turns: a queue in which nobody waits long because somebody else has much to do. Pure and deterministic: no clock, no chance, no sets.

Tenants take turns. In a tenant's turn the higher priority goes first; one that was passed over seven times in a row while something of it
waited goes before that. Within a priority the task types take turns, and within a type whoever came first is first. Whoever waits no more
is taken out, wherever it stands, and costs nobody a turn.

So while anything waits a turn is somebody's; whoever comes anew waits for one turn of each other tenant before his tenant's own, and nobody
waits for ever. Putting in and taking out cost the same however much waits.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, Literal, TypeVar

from interlock.schemas.ids import DEFAULT_TENANT

T = TypeVar("T")

Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
NORMAL: Priority = "normal"

_RANKS: dict[str, int] = {priority: rank for rank, priority in enumerate(PRIORITIES)}

PASSED_AT_MOST = 7
"""Turns of its tenant that a priority is passed over in a row, if anything of it waits."""


class _Ring(Generic[T]):
    """Task types of one tenant and priority, in turns. One that has nothing left is forgotten."""

    __slots__ = ("lanes", "size")

    def __init__(self) -> None:
        self.lanes: OrderedDict[str, OrderedDict[Hashable, T]] = OrderedDict()
        self.size = 0

    def put(self, type: str, key: Hashable, item: T) -> bool:
        lane = self.lanes.get(type)
        if lane is None:
            lane = self.lanes[type] = OrderedDict()
        elif key in lane:
            return False
        lane[key] = item
        self.size += 1
        return True

    def first(self) -> T:
        lane = self.lanes[next(iter(self.lanes))]
        return lane[next(iter(lane))]

    def take(self) -> T:
        type = next(iter(self.lanes))
        lane = self.lanes[type]
        _, item = lane.popitem(last=False)
        self.size -= 1
        if lane:
            self.lanes.move_to_end(type)
        else:
            del self.lanes[type]
        return item

    def remove(self, type: str, key: Hashable) -> bool:
        lane = self.lanes.get(type)
        if lane is None or key not in lane:
            return False
        del lane[key]
        self.size -= 1
        if not lane:
            del self.lanes[type]
        return True


class _Tenant(Generic[T]):
    """What waits of one tenant, by priority; `passed` counts how often in a row each was passed over."""

    __slots__ = ("passed", "rings", "size")

    def __init__(self) -> None:
        self.rings: tuple[_Ring[T], ...] = tuple(_Ring() for _ in PRIORITIES)
        self.passed = [0] * len(PRIORITIES)
        self.size = 0

    def next(self) -> int:
        """The priority whose turn it is."""
        waiting = [number for number, ring in enumerate(self.rings) if ring.size]
        overdue = max(waiting, key=self.passed.__getitem__)
        return overdue if self.passed[overdue] >= PASSED_AT_MOST else waiting[0]

    def take(self) -> T:
        turn = _RANKS[NORMAL]
        if self.rings[turn].size < self.size:  # others wait too
            turn = self.next()
            for number in range(turn + 1, len(PRIORITIES)):
                if self.rings[number].size:
                    self.passed[number] += 1
        self.passed[turn] = 0
        self.size -= 1
        return self.rings[turn].take()

    def remove(self, rank: int, type: str, key: Hashable) -> bool:
        if not self.rings[rank].remove(type, key):
            return False
        self.size -= 1
        if not self.rings[rank].size:
            self.passed[rank] = 0
        return True


class Turns(Generic[T]):
    """What waits, on whose account, each under a key of its own."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, _Tenant[T]] = OrderedDict()
        self._size = 0
        self._idle: _Tenant[T] = _Tenant()  # for the next tenant: where one alone comes and goes nothing is made

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order that says whose turn is when."""
        for tenant in self._tenants.values():
            for ring in tenant.rings:
                for lane in ring.lanes.values():
                    yield from lane.values()

    def put(self, key: Hashable, item: T, type: str, tenant: str = DEFAULT_TENANT, priority: str = NORMAL) -> None:
        """Let it wait for its turn. What waits under this key on this account already keeps its place."""
        account = self._tenants.get(tenant)
        if account is None:
            account = self._tenants[tenant] = _Tenant() if self._idle.size else self._idle
        if account.rings[_RANKS[priority]].put(type, key, item):
            account.size += 1
            self._size += 1

    def first(self) -> T:
        """Whoever is next; there is somebody."""
        account = self._tenants[next(iter(self._tenants))]
        return account.rings[account.next()].first()

    def take(self) -> T:
        """Take out whoever is next; there is somebody."""
        tenant = next(iter(self._tenants))
        account = self._tenants[tenant]
        item = account.take()
        self._size -= 1
        if account.size:
            self._tenants.move_to_end(tenant)
        else:
            self._forget(tenant)
        return item

    def remove(self, key: Hashable, type: str, tenant: str = DEFAULT_TENANT, priority: str = NORMAL) -> None:
        """Take out what was put in under this key, if it still waits; whose turn it is stays as it is."""
        account = self._tenants.get(tenant)
        if account is not None and account.remove(_RANKS[priority], type, key):
            self._size -= 1
            if not account.size:
                self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        self._idle = self._tenants.pop(tenant)

    def of(self, type: str, tenant: str) -> int:
        """How much of a task type waits on a tenant's account."""
        account = self._tenants.get(tenant)
        return sum(len(ring.lanes.get(type, ())) for ring in account.rings) if account is not None else 0
