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
from interlock.orchestrator.state import DispatchState, TaskState
from interlock.schemas import drill, undo
from interlock.schemas.budget import Amounts
from interlock.schemas.errors import AmbiguousRoute, NoRoute
from interlock.schemas.goals import filled
from interlock.schemas.specs import LIVE_TASKS, AgentSpec, AppSpec, ContractRef, Escalate, ToolSpec, WorkflowSpec, split_ref
from interlock.schemas.turns import Turns

_OWN = {spec.name: spec for spec in (drill.SPEC, undo.SPEC)}
"""The bus's own task types."""


@dataclass(slots=True)
class Pool:
    """All replicas of one agent and what waits for them. `suspects` may cost a replica its life: they are handed, one at a time, to the one
    that is kept `aside` for them."""

    agent: AgentSpec
    channels: list[Channel] = field(default_factory=list)
    queue: Turns[DispatchState] = field(default_factory=Turns)
    suspects: deque[DispatchState] = field(default_factory=deque)
    aside: Channel | None = None

    def pick(self) -> Channel | None:
        """The least loaded replica with room, none where all are full."""
        best, aside = None, self.aside
        for channel in self.channels:
            if (
                channel is not aside
                and channel.open
                and channel.load < self.agent.concurrency
                and (best is None or channel.load < best.load)
            ):
                best = channel
        return best


class Router:
    """What is deployed, by name, and who takes which contract."""

    def __init__(self) -> None:
        self.workflows: dict[str, WorkflowSpec] = dict(_OWN)
        self.tools: dict[tuple[str, str], ToolSpec] = {}
        self.pools: dict[str, Pool] = {}
        self._apps: dict[str, AppSpec] = {}
        self._owners: dict[str, AppSpec] = {}
        self._routes: dict[tuple[str, str, tuple[str, ...]], Pool] = {}
        # Also what is declared no more: work that began before goes on by it.
        self.known_tools: dict[tuple[str, str], ToolSpec] = {}
        self._known_workflows: dict[str, WorkflowSpec] = dict(_OWN)
        self._known_agents: set[str] = set()

    def deploy(self, app: AppSpec) -> list[Pool]:
        """Take an app's declarations in place of those that it had before, under whatever name; of two apps that
        declare one name the later one has it. The pools of agents that nobody declares any more."""
        for name in (app.name, *app.formerly):
            self._apps.pop(name, None)
        self._apps[app.name] = app
        agents: dict[str, AgentSpec] = {}
        self.tools, self.workflows, self._owners = {}, dict(_OWN), {}
        for one in self._apps.values():
            tools = {tool.name: tool for tool in one.tools}
            for agent in one.agents:
                agents[agent.name] = agent
                self.tools = {key: tool for key, tool in self.tools.items() if key[0] != agent.name}
                self.tools.update({(agent.name, name): tools[name] for name in agent.tools})
            self.workflows.update({workflow.name: workflow for workflow in one.workflows})
            self._owners.update({workflow.name: one for workflow in one.workflows})
        gone = [pool for name, pool in self.pools.items() if name not in agents]
        before, self.pools = self.pools, {}
        for name, agent in agents.items():
            pool = self.pools[name] = before.get(name) or Pool(agent)
            pool.agent = agent
        self.known_tools.update(self.tools)
        self._known_workflows.update(self.workflows)
        self._known_agents.update(agents)
        self._routes.clear()
        return gone

    def others(self, app: AppSpec) -> list[str]:
        """Apps that declare something and that a deployment of `app` would leave standing."""
        replaced = {app.name, *app.formerly}
        return sorted(one.name for one in self._apps.values() if one.name not in replaced and (one.agents or one.workflows))

    @property
    def live(self) -> int:
        """How many tasks may be live, those that are parked aside."""
        return min((app.live for app in self._apps.values()), default=LIVE_TASKS)

    @property
    def types(self) -> list[str]:
        """The task types that apps declare."""
        return sorted(self.workflows.keys() - _OWN.keys())

    @property
    def vanished(self) -> list[str]:
        """Agents that were declared once and are no more: their pools shall be empty."""
        return sorted(self._known_agents - self.pools.keys())

    def escalate(self, workflow: str) -> Escalate:
        """Whom a task of this type asks, and how long it waits."""
        return self._known_workflows[workflow].escalate

    def undo_limits(self, workflow: str) -> Amounts:
        """What undoing a task of this type may use."""
        return self._known_workflows[workflow].undo or undo.SPEC.limits

    def receives(self, workflow: str) -> tuple[ContractRef, ...]:
        """What may be sent into a running task of this type."""
        return self._known_workflows[workflow].receives

    def resume_seconds(self, workflow: str) -> float:
        """How long a workflow of this type may take from an event until it is at rest again."""
        return self._known_workflows[workflow].resume_seconds

    def aim(self, task: TaskState) -> tuple[str, str]:
        """What a task is for and when it is done, in words."""
        workflow = self._known_workflows.get(task.type)
        return ("", "") if workflow is None else (filled(workflow.goal, task.request), workflow.until)

    def uses_models(self, workflow: str) -> bool:
        """Whether the app that declares this workflow has agents that call models; the drill is no app's."""
        owner = self._owners.get(workflow)
        return owner is not None and any(agent.kind == "model" for agent in owner.agents)

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
