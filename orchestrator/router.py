"""Routing: by contract, never by agent name.

An agent takes a message if it accepts the contract in the same major at that version or a later one (the registry has proved that
later versions of a major accept what earlier ones did) and answers with a contract that is awaited. Where a major lies between them apps
may have migrations that cross it: whoever needs the fewest of them, there and back, is asked. Exactly one agent must fit best.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import DispatchState, TaskState
from interlock.schemas import drill, undo
from interlock.schemas.budget import Amounts
from interlock.schemas.errors import AmbiguousRoute, NoRoute
from interlock.schemas.goals import filled
from interlock.schemas.registry.ways import way
from interlock.schemas.specs import LIVE_TASKS, AgentSpec, AppSpec, ContractRef, Escalate, MigrationSpec, ToolSpec, WorkflowSpec, split_ref
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


class Route(NamedTuple):
    """The pool that a message goes to, and the migrations by which its agent reads it."""

    pool: Pool
    migrated: list[str]


class Router:
    """What is deployed, by name, and who takes which contract."""

    def __init__(self) -> None:
        self.workflows: dict[str, WorkflowSpec] = dict(_OWN)
        self.tools: dict[tuple[str, str], ToolSpec] = {}
        self.pools: dict[str, Pool] = {}
        self._apps: dict[str, AppSpec] = {}
        self._owners: dict[str, AppSpec] = {}
        self._routes: dict[tuple[str, str, tuple[str, ...]], Route] = {}
        self._ways: dict[tuple[ContractRef, tuple[str, ...]], list[str] | None] = {}
        # Also what is declared no more: work that began before goes on by it.
        self.known_tools: dict[tuple[str, str], ToolSpec] = {}
        self._known_workflows: dict[str, WorkflowSpec] = dict(_OWN)
        self._known_agents: set[str] = set()

    def wait_no_more(self, dispatch: DispatchState, task: TaskState) -> None:
        """What is over counts as waiting nowhere, and costs nobody a turn."""
        pool = self.pools.get(dispatch.agent)
        if pool is not None:
            pool.queue.remove(dispatch.id, task.type, task.tenant, task.priority)
            if pool.suspects:
                pool.suspects = deque(one for one in pool.suspects if one is not dispatch)

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
        self._ways.clear()
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

    def knows(self, scope: str, name: str) -> bool:
        """Whether there is such an agent, or task type, or was once: its tasks may live on. An undoing task is of the type of the one that
        it is for."""
        return name in self._known_agents if scope == "agent" else name in self._known_workflows and name != undo.UNDO

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

    def route(self, contract: str, version: str, returns: Iterable[str]) -> Route:
        """Who takes `contract version` and answers with one of `returns`; raises `NoRoute` or `AmbiguousRoute`."""
        key = (contract, version, tuple(returns))
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = self._find(*key)
        return route

    def _find(self, contract: str, version: str, returns: tuple[str, ...]) -> Route:
        awaited, written = [split_ref(text) for text in returns], ContractRef(contract, version)
        takers = [(pool, there) for pool in self.pools.values() if (there := self._shortest([written], pool.agent.accepts)) is not None]
        fitting = [
            (len(there) + len(back), pool, there)
            for pool, there in takers
            if (back := self._shortest(pool.agent.returns, awaited)) is not None
        ]
        if not fitting:
            known = ", ".join(sorted(_words(pool.agent) for pool in self.pools.values() if _knows(pool.agent, contract))) or "none"
            raise NoRoute(contract=contract, version=version, returns=" or ".join(returns), known=known)
        fewest = min(migrations for migrations, _, _ in fitting)
        nearest = [Route(pool, [one.name for one in there]) for migrations, pool, there in fitting if migrations == fewest]
        if len(nearest) > 1:
            agents = ", ".join(sorted(route.pool.agent.name for route in nearest))
            raise AmbiguousRoute(agents=agents, contract=contract, returns=" or ".join(returns))
        return nearest[0]

    def way_back(self, reply: ContractRef, returns: Sequence[str]) -> list[str] | None:
        """The migrations by which one of `returns` reads a reply; `None` where there is no way."""
        key = (reply, tuple(returns))
        if key not in self._ways:
            way = self._shortest([reply], [split_ref(text) for text in returns])
            self._ways[key] = None if way is None else [one.name for one in way]
        return self._ways[key]

    def _shortest(self, written: Iterable[ContractRef], readers: Iterable[ContractRef]) -> tuple[MigrationSpec, ...] | None:
        migrations = [one for app in self._apps.values() for one in app.migrations]
        ways = [found for one in written for reader in readers if (found := way(migrations, one, reader)) is not None]
        return min(ways, key=len, default=None)


def _knows(agent: AgentSpec, contract: str) -> bool:
    return any(ref.name == contract for ref in agent.accepts)


def _words(agent: AgentSpec) -> str:
    return f"{agent.name} (takes {', '.join(map(str, agent.accepts))}, answers with {', '.join(map(str, agent.returns))})"
