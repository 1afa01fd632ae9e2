"""What one resumed ask costs a runner: event in, reply decoded, workflow resumed, next message encoded, command out."""

import time

from interlock.actors.activation import Activation
from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.schemas.frames import Happened, Start, tagged
from interlock.schemas.message import Message

ASKS, BATCH = 20_000, 500


class Ping(Message, contract="bench.ping", version="1.0.0"):
    text: str


async def pinging(request: Ping, ctx: WorkflowContext) -> Ping:
    for _ in range(ASKS):
        request = await ctx.ask(request, returns=Ping)
    return request


def main() -> None:
    definition = WorkflowDefinition("pinging", "1.0.0", pinging, Ping, Ping)
    activation = Activation(definition, Start("tsk_bench", "pinging", b'{"text":"hello"}', 0, []))
    activation.begin()
    costs = []
    for first in range(1, ASKS + 1, BATCH):
        began = time.perf_counter()
        for n in range(first, first + BATCH):
            for command in activation.deliver(
                Happened("tsk_bench", n, n, "reply", b'{"text":"hello %d"}' % n, n, b"", "bench.ping", "1.0.0")
            ):
                tagged(command)
        costs.append((time.perf_counter() - began) / BATCH * 1e6)
    costs.sort()
    print(f"microseconds per resumed ask: {costs[0]:.1f} at best, {costs[len(costs) // 2]:.1f} in the middle")


if __name__ == "__main__":
    main()
