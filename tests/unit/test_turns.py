"""Turns: while something waits somebody is next, nobody waits for ever, and one account's crowd costs another one turn."""

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.turns import PASSED_AT_MOST, PRIORITIES, Priority, Turns

Entry = tuple[str, str, Priority]
entries = st.tuples(st.sampled_from("ABC"), st.sampled_from(["x", "y"]), st.sampled_from(PRIORITIES))
steps = st.lists(st.one_of(entries, st.none()), max_size=120)  # none: somebody has his turn


def put(turns: Turns[tuple[Entry, int]], entry: Entry, number: int) -> None:
    tenant, type, priority = entry
    turns.put(number, (entry, number), type, tenant, priority)


@given(steps)
def test_whoever_waits_is_taken_once_and_in_order_within_type_and_priority(plan: list[Entry | None]) -> None:
    turns: Turns[tuple[Entry, int]] = Turns()
    lanes: dict[Entry, deque[int]] = {}
    waiting = 0
    for number, step in enumerate([*plan, *[None] * len(plan)]):
        if step is not None:
            put(turns, step, number)
            lanes.setdefault(step, deque()).append(number)
            waiting += 1
        elif turns:
            first = turns.first()
            entry, one = turns.take()
            assert first == (entry, one)
            assert lanes[entry].popleft() == one
            waiting -= 1
        assert len(turns) == waiting == len(list(turns))
        for tenant, type in [(entry[0], entry[1]) for entry in lanes]:
            assert turns.of(type, tenant) == sum(len(lanes.get((tenant, type, priority), ())) for priority in PRIORITIES)
    assert waiting == 0, "as many turns as were asked for leave nobody waiting"


@given(steps, st.integers(0, 500))
def test_a_tenant_that_comes_anew_waits_for_one_turn_of_each_other_at_most(plan: list[Entry | None], crowd: int) -> None:
    turns: Turns[tuple[Entry, int]] = Turns()
    for number, step in enumerate(plan):
        if step is not None:
            put(turns, step, number)
    for number in range(crowd):
        put(turns, ("A", "x", "high"), 1000 + number)
    put(turns, ("new", "x", "low"), -1)
    others = len({entry[0] for entry, _ in turns}) - 1
    for turn in range(others + 1):
        put(turns, ("later", "x", "high"), 2000 + turn)  # who comes after it does not go before it
        if turns.take()[1] == -1:
            return
    raise AssertionError(f"{others} other tenants had more than one turn each")


@given(steps)
def test_tenants_that_wait_all_the_time_have_as_many_turns(plan: list[Entry | None]) -> None:
    turns: Turns[tuple[Entry, int]] = Turns()
    had: Counter[str] = Counter()
    for tenant in "ABC":
        for number in range(200):
            put(turns, (tenant, "x", "normal"), number)
    for number, step in enumerate(plan):
        if step is not None:
            put(turns, step, 1000 + number)
        had[turns.take()[0][0]] += 1
        assert max(had.values()) - min(had[tenant] for tenant in "ABC") <= 1


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(PRIORITIES)), max_size=150))
def test_the_higher_priority_goes_first_and_no_other_is_passed_over_for_ever(arrivals: list[tuple[str, Priority]]) -> None:
    """The high ones never end; whoever comes meanwhile has his turn all the same."""
    turns: Turns[tuple[Entry, int]] = Turns()
    for number in range(20 * len(arrivals) + 20):
        put(turns, ("A", "x", "high"), number)
    passed: Counter[Priority] = Counter()
    for number, (type, priority) in enumerate(arrivals):
        put(turns, ("A", type, priority), -number - 1)
        taken = turns.take()[0][2]
        waiting = {entry[2] for entry, _ in turns}
        overdue = max(passed.values(), default=0) >= PASSED_AT_MOST
        assert taken == "high" or overdue, "nobody lower goes first without having waited"
        passed[taken] = 0
        for one in PRIORITIES[PRIORITIES.index(taken) + 1 :]:
            passed[one] += one in waiting
        assert max(passed.values()) <= PASSED_AT_MOST + len(PRIORITIES) - 2


@given(st.integers(1, 40), st.integers(1, 40))
def test_types_of_one_tenant_and_priority_take_turns(many: int, few: int) -> None:
    turns: Turns[str] = Turns()
    for number in range(many + few):
        turns.put(number, "x", "x")
    for number in range(few):
        turns.put(number, "y", "y")
    order = [turns.take() for _ in range(2 * few)]
    assert order == ["x", "y"] * few


@given(steps, steps, st.data())
def test_whoever_is_taken_out_is_nobodys_turn(before: list[Entry | None], after: list[Entry | None], data: st.DataObject) -> None:
    """Those that stay have the turns that they would have had if the others had never come, but for which tenant, or type, is first."""
    turns: Turns[tuple[Entry, int]] = Turns()
    here: dict[int, Entry] = {}
    for number, entry in enumerate([*before, *after]):
        if entry is None:
            if turns:
                del here[turns.take()[1]]
            continue
        put(turns, entry, number)
        here[number] = entry
    gone = data.draw(st.sets(st.sampled_from(sorted(here)))) if here else set()
    kept = len({entry[0] for number, entry in here.items() if number not in gone})
    for number in (*gone, *gone):  # twice is once
        tenant, type, priority = here[number]
        turns.remove(number, type, tenant, priority)
    assert len(turns) == len(here) - len(gone) == len(list(turns))
    first = [turns.take() for _ in range(len(turns))]
    assert {number for _, number in first} == here.keys() - gone
    assert len({entry[0] for entry, _ in first[:kept]}) == kept, "each tenant that still waits has one turn before any has two"
    for entry in set(here.values()):
        numbers = [number for one, number in first if one == entry]
        assert numbers == sorted(numbers)


def test_what_waits_already_keeps_its_place() -> None:
    turns: Turns[str] = Turns()
    for key in ("a", "b", "a"):
        turns.put(key, key, "x")
    assert [turns.take() for _ in range(len(turns))] == ["a", "b"]
