"""Pools that follow their load, and sizes that somebody has pinned."""

import asyncio

from pool_stage import Ground, Life

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.journal import Row
from interlock.actors.supervisor.members import PoolState
from interlock.testing.virtual_time import run


def test_a_pool_follows_its_load_up_at_once_and_down_slowly() -> None:
    ground = Ground()

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1, 3)
            await asyncio.sleep(100)
            assert ground.asked == 0, "nothing waits, so nobody is asked"
            ground.loads = {"pricing": Demand(2, 9, 0.0, 2)}
            pools.pressed()
            await asyncio.sleep(1.2)
            assert len(pools.members("pricing")) == 3
            ground.loads = {"pricing": Demand(2, 0, 0.0, 2)}
            await asyncio.sleep(59)
            assert len(pools.members("pricing")) == 3
            await asyncio.sleep(3)
            assert len(pools.members("pricing")) == 2
            ground.loads = {}  # the engine is away
            await asyncio.sleep(200)
            assert len(pools.members("pricing")) == 2
            ground.loads = {"pricing": Demand(0, 0, 0.0, 2)}
            await asyncio.sleep(65)
            assert pools.states()["pricing"] == PoolState(1, 1, 0, 0, "", 1, 3, False)
            asked = ground.asked
            await asyncio.sleep(100)
            assert ground.asked == asked, "as small as it may be: nobody is asked any more"

    run(main())


def test_a_pinned_size_stays_until_it_is_let_go() -> None:
    ground = Ground()
    ground.loads = {"pricing": Demand(9, 9, 9.0, 1)}

    async def main() -> None:
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1, 4)
            pools.scale("pricing", 2)
            pools.pressed()
            await asyncio.sleep(5)
            assert pools.states()["pricing"] == PoolState(2, 2, 0, 0, "", 1, 4, True)
        async with Life(ground) as pools:
            pools.declare("pricing", "agent", 1, 4)  # deployed again
            pools.pressed()
            await asyncio.sleep(5)
            assert pools.states()["pricing"] == PoolState(2, 2, 0, 0, "", 1, 4, True)
            pools.scale("pricing", None)
            await asyncio.sleep(5)
            assert pools.states()["pricing"] == PoolState(4, 4, 0, 0, "", 1, 4, False)
        ground.loads = {}
        rows = len(ground.store)
        async with Life(ground) as pools:
            await asyncio.sleep(5)
            assert pools.states()["pricing"].wanted == 4, "what the load made of it shows in who is there"
            assert [row.kind for row in ground.store[rows:]] == ["started"]
            pools.declare("pricing", "agent", 1, 2)
            await asyncio.sleep(5)
            assert pools.states()["pricing"] == PoolState(2, 2, 0, 0, "", 1, 2, False)
            pools.scale("pricing", 2)
            pools.declare("pricing", "agent", 0)
            await asyncio.sleep(5)
            assert pools.states() == {}

    run(main())


def test_a_size_that_was_written_before_pools_followed_their_load_is_kept() -> None:
    ground = Ground()
    ground.store.append(Row(1, 1, "pool", "", {"pool": "pricing", "kind": "agent", "size": 3}))

    async def main() -> None:
        async with Life(ground) as pools:
            await asyncio.sleep(1)
            assert pools.states()["pricing"] == PoolState(3, 3, 0, 0, "", 3, 3, False)

    run(main())
