"""Routing: by contract, never by agent name.

An agent takes a message if it accepts the contract in the same major at that version or a later one (the registry has proved that
later versions of a major accept what earlier ones did) and answers with a contract that is awaited. Exactly one agent must fit.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import semver

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import DispatchState
from interlock.schemas.errors import AmbiguousRoute, NoRoute
from interlock.schemas.specs import AgentSpec, AppSpec, ContractRef, ToolSpec, WorkflowSpec, split_ref


@dataclass(slots=True)
class Pool:
    """All replicas of one agent and what waits for them."""

    agent: AgentSpec
    channels: list[Channel] = field(default_factory=list)
    queue: deque[DispatchState] = field(default_factory=deque)

    def pick(self) -> Channel | None:
        """The least loaded replica with room, none where all are full."""
        best = None
        for channel in self.channels:
            if channel.open and channel.load < self.agent.concurrency and (best is None or channel.load < best.load):
                best = channel
        return best


class Router:
    """What is deployed, by name, and who takes which contract."""

    def __init__(self) -> None:
        self.workflows: dict[str, WorkflowSpec] = {}
        self.tools: dict[tuple[str, str], ToolSpec] = {}
        self.pools: dict[str, Pool] = {}
        self._routes: dict[tuple[str, str, tuple[str, ...]], Pool] = {}

    def deploy(self, app: AppSpec) -> None:
        """Take an app's declarations; those of a name that was there before are replaced."""
        tools = {tool.name: tool for tool in app.tools}
        for agent in app.agents:
            pool = self.pools.setdefault(agent.name, Pool(agent))
            pool.agent = agent
            self.tools.update({(agent.name, name): tools[name] for name in agent.tools})
        self.workflows.update({workflow.name: workflow for workflow in app.workflows})
        self._routes.clear()

    def route(self, contract: str, version: str, returns: Iterable[str]) -> Pool:
        """The pool that takes `contract version` and answers with one of `returns`; raises `NoRoute` or `AmbiguousRoute`."""
        key = (contract, version, tuple(returns))
        pool = self._routes.get(key)
        if pool is None:
            pool = self._routes[key] = self._find(*key)
        return pool

    def _find(self, contract: str, version: str, returns: tuple[str, ...]) -> Pool:
        awaited = [split_ref(text) for text in returns]
        takers = [pool for pool in self.pools.values() if any(fits(ref, contract, version) for ref in pool.agent.accepts)]
        fitting = [pool for pool in takers if any(fits(want, ref.name, ref.version) for want in awaited for ref in pool.agent.returns)]
        if not fitting:
            known = ", ".join(sorted(pool.agent.name for pool in takers)) or "none"
            raise NoRoute(contract=contract, version=version, returns=" or ".join(returns), known=known)
        if len(fitting) > 1:
            agents = ", ".join(sorted(pool.agent.name for pool in fitting))
            raise AmbiguousRoute(agents=agents, contract=contract, returns=" or ".join(returns))
        return fitting[0]


@lru_cache(maxsize=4096)
def fits(reader: ContractRef, name: str, version: str) -> bool:
    """Whether who reads `reader` can read `name version`: same contract, same major, no later than the reader's own version."""
    if reader.name != name:
        return False
    written, read = semver.Version.parse(version), semver.Version.parse(reader.version)
    return written.major == read.major and written <= read
