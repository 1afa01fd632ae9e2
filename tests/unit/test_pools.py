"""Pools on virtual time: the size is kept, names are never used again, nothing half made survives a restart."""

import asyncio
from itertools import pairwise

import pytest
from pool_stage import Ground, Life

from interlock.actors.supervisor.members import PoolState
from interlock.schemas.errors import BadDeclaration, NotBorn, UnknownAgent
from interlock.testing.virtual_time import run


def test_a_pool_is_brought_to_its_size() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 3)
            assert pools.members("pricing") == []
            await asyncio.sleep(1)
            assert pools.members("pricing") == ["pricing-1", "pricing-2", "pricing-3"]
            assert sorted(ground.joined) == pools.members("pricing") == pools.incarnations()
            # Together, not one after the other.
            assert {at for at, _ in ground.spawned} == {0}

    run(main())


def test_who_is_too_many_leaves_before_it_is_stopped() -> None:
    ground = Ground()
    ground.leave_fails = 2

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 2)
            await asyncio.sleep(1)
            pools.scale("pricing", 1)
            await asyncio.sleep(0.5)
            assert pools.members("pricing") == ["pricing-1"]
            assert pools.incarnations() == ["pricing-1", "pricing-2"]
            await asyncio.sleep(5)
            assert ground.log == ["leave pricing-2", "left pricing-2", "stop pricing-2"]
            assert pools.incarnations() == ["pricing-1"]
            pools.scale("pricing", 2)
            await asyncio.sleep(1)
            assert pools.members("pricing") == ["pricing-1", "pricing-3"]

    run(main())


def test_who_never_ends_its_work_is_stopped_in_the_end() -> None:
    ground = Ground()
    ground.work_takes = 1_000

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1)
            await asyncio.sleep(1)
            pools.scale("pricing", 0)
            await asyncio.sleep(29)
            assert ground.live == {"pricing-1"}
            await asyncio.sleep(2)
            assert ground.live == set()

    run(main())


def test_a_size_may_change_while_members_are_born() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 3)
            await asyncio.sleep(0.05)
            pools.scale("pricing", 1)
            await asyncio.sleep(10)
            assert ground.live == {"pricing-1"}
            assert pools.members("pricing") == ["pricing-1"]

    run(main())


def test_who_is_lost_is_replaced_once() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 2)
            await asyncio.sleep(60)
            pools.lost("pricing-1", "killed")
            pools.lost("pricing-1", "killed")
            pools.lost("never-9", "killed")
            assert pools.members("pricing") == ["pricing-2"]
            await asyncio.sleep(0.2)
            assert pools.members("pricing") == ["pricing-2", "pricing-3"]

    run(main())


def test_who_dies_young_again_and_again_is_replaced_ever_more_slowly() -> None:
    ground = Ground()

    async def main() -> list[float]:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1)
            for _ in range(12):
                ground.ready.clear()
                if not pools.members("pricing"):
                    await ground.ready.wait()
                pools.lost(pools.members("pricing")[0], "crashed")
            await asyncio.sleep(60)
            pools.lost(pools.members("pricing")[0], "crashed after a good life")
            await asyncio.sleep(1)
            assert len(pools.members("pricing")) == 1
        return [at for at, _ in ground.spawned]

    born = run(main())
    gaps = [later - sooner for sooner, later in pairwise(born[:12])]
    assert gaps[0] < 0.2
    assert all(later >= sooner - 0.02 for sooner, later in pairwise(gaps))
    assert 30 <= gaps[-1] < 31


def test_a_birth_that_fails_is_cleared_up_and_tried_again() -> None:
    ground = Ground()
    ground.spawn_fails = lambda name: name in ("pricing-1", "pricing-2")

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1)
            await asyncio.sleep(5)
            assert pools.members("pricing") == ["pricing-3"]
            assert ground.live == {"pricing-3"}
            assert ground.joined == ["pricing-3"]

    run(main())


def test_who_is_lost_before_it_was_ready_leaves_nothing() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1)
            await asyncio.sleep(0.05)
            pools.lost("pricing-1", "crashed at birth")
            await asyncio.sleep(5)
            assert pools.members("pricing") == ["pricing-2"]
            assert ground.live == {"pricing-2"}

    run(main())


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.5, 1.5])
def test_a_restart_finds_everyone_and_reuses_no_name(moment: float) -> None:
    """At the moments: named only, half made, ready, leaving."""
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 2)
            if moment > 1:
                await asyncio.sleep(1)
                pools.scale("pricing", 1)
            await asyncio.sleep(moment)
        async with Life(ground) as pools:
            await asyncio.sleep(5)
            members = pools.members("pricing")
            assert len(members) == (1 if moment > 1 else 2)
            assert ground.live == set(members) == set(pools.incarnations())
            if moment >= 0.5:
                assert "pricing-1" in members
            pools.scale("pricing", 4)
            await asyncio.sleep(1)
            assert len(pools.members("pricing")) == 4

    run(main())


def test_a_new_supervisor_says_again_who_is_ready() -> None:
    async def main() -> None:
        ground = Ground()
        async with Life(ground) as pools:
            pools.declare("coder", "agent", 2)
            await asyncio.sleep(1)
        ground.joined.clear()
        async with Life(ground) as pools:
            await asyncio.sleep(0.1)
            assert sorted(ground.joined) == sorted(pools.members("coder"))
            assert len(ground.joined) == 2

    run(main())


def test_an_unknown_pool_is_refused_by_name() -> None:
    async def main() -> None:
        async with Life(Ground()) as pools:
            pools.declare("pricing", "agent", 0)
            with pytest.raises(UnknownAgent, match="pricing"):
                pools.scale("princing", 2)
            with pytest.raises(BadDeclaration):
                pools.scale("pricing", -1)

    run(main())


def test_what_keeps_a_pool_from_its_size_is_said() -> None:
    ground = Ground()
    ground.spawn_takes, ground.waiting = 1_000, "waits for room"

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 2)
            pools.declare("nobody", "agent", 0)
            await asyncio.sleep(1)
            assert pools.states() == {"pricing": PoolState(2, 0, 2, 0, "pricing-1 waits for room", 2, 2, False)}
            with pytest.raises(NotBorn, match="pricing-1 waits for room"):
                await pools.first("pricing")
            assert asyncio.get_running_loop().time() == pytest.approx(31, abs=0.1), "a node may come yet"
            await asyncio.sleep(90)  # the births have failed: two young deaths, and nobody is tried at once
            assert pools.states()["pricing"].trouble == "pricing-3 waits for room"
            ground.waiting, ground.spawn_takes = "", 0.1
            await asyncio.sleep(150)
            assert pools.states() == {"pricing": PoolState(2, 2, 0, 0, "", 2, 2, False)}

    run(main())


def test_a_crash_loop_is_shown_with_its_pause() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1)
            for n in range(1, 8):
                while pools.members("pricing") != [f"pricing-{n}"]:  # noqa: ASYNC110 - the pools announce it to the engine alone
                    await asyncio.sleep(0.05)
                pools.lost(f"pricing-{n}", "it used more memory than it may")
            assert pools.states()["pricing"].trouble == (
                "its members end young: it used more memory than it may; 7 in a row, the next in 3.2 s"
            )

    run(main())
