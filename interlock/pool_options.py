"""What an agent's declaration says of its pool: how many replicas there are, what each may have at a time, what may wait for them."""

from typing import Any, TypedDict

from interlock.schemas.errors import BadDeclaration
from interlock.schemas.needs import Needs
from interlock.schemas.sizes import bytes_in
from interlock.schemas.specs import QUEUED_MESSAGES, Isolation

CONCURRENCY = 64


class PoolOptions(TypedDict, total=False):
    """`replicas` is (at the least, at the most), default (1, 8); `concurrency` are dispatches at a time in each (64). A replica that uses
    more than `memory` (such as "2GB"; default: a share of its node) is ended. `needs` is what a node must have for a replica, counted by
    Ray; a bus without Ray has all that is asked. With `isolation="exclusive"` each dispatch has a process to itself, which ends after it;
    `replicas` are then the processes that live, at work or ready for the next one. Where `queue` messages wait for the agent (100,000),
    submits are refused whose tasks have something wait there."""

    replicas: tuple[int, int]
    concurrency: int
    memory: str | int
    needs: Needs | None
    isolation: Isolation
    queue: int


def pool_fields(agent: str, options: PoolOptions) -> dict[str, Any]:
    """The same as fields of an `AgentSpec`. Raises `BadDeclaration`."""
    what = f"agent {agent}"
    replicas = options.get("replicas", (1, 8))
    if not 0 <= replicas[0] <= replicas[1]:
        remedy = "Write replicas=(1, 8): one at the least, eight at the most."
        raise BadDeclaration(what=what, problem=f"replicas={replicas} are no bounds", remedy=remedy)
    isolation = options.get("isolation", "shared")
    if isolation not in ("shared", "exclusive"):
        raise BadDeclaration(what=what, problem=f"isolation={isolation!r} is none", remedy='Write isolation="exclusive", or leave it out.')
    exclusive = isolation == "exclusive"
    concurrency = options.get("concurrency", 1 if exclusive else CONCURRENCY)
    if exclusive and concurrency != 1:
        problem = f"it is exclusive and has concurrency={concurrency}, and a process has one dispatch"
        raise BadDeclaration(what=what, problem=problem, remedy="Leave concurrency= out, and let replicas= say how many there may be.")
    queue = options.get("queue", QUEUED_MESSAGES)
    if queue < 1:
        raise BadDeclaration(what=what, problem=f"queue={queue}, and somebody always waits", remedy="Write as in queue=10_000.")
    return {
        "replicas": replicas,
        "concurrency": concurrency,
        "isolation": isolation,
        "memory": bytes_in(what, options.get("memory", 0)),
        "needs": options.get("needs") or Needs(),
        "queue": queue,
    }


def check_live(app: str, live: int) -> int:
    """How many tasks of an app may be live. Raises `BadDeclaration`."""
    if live < 1:
        raise BadDeclaration(what=f"app {app}", problem=f"live={live} lets no task in", remedy="Write as in live=10_000.")
    return live
