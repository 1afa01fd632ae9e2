"""An app: what a user declares and deploys. Agents, workflows and tools are plain functions with hints; nothing runs here.

A declaration that could not work is refused on the line that makes it, with what to write instead.
"""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from interlock.actors.definitions import AgentDefinition, WorkflowDefinition, condition_name
from interlock.actors.migrations import Migrations
from interlock.pool_options import PoolOptions, check_live, pool_fields
from interlock.schemas.budget import USD, Amount, Budget, writes_meter
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.goals import check_goal, first_paragraph, until_of
from interlock.schemas.limits import ScopeLimits, asked_limits
from interlock.schemas.message import Message, contract_of
from interlock.schemas.sizes import bytes_in
from interlock.schemas.specs import (
    LIVE_TASKS,
    OWN_POOLS,
    REPEATS,
    RESUME_SECONDS,
    AgentSpec,
    AppSpec,
    ContractRef,
    Conversation,
    Escalate,
    WorkflowSpec,
)
from interlock.schemas.times import LONGEST_SECONDS
from interlock.schemas.turns import NORMAL, PRIORITIES, Priority
from interlock.tools.tool import Declarer, Tool, ToolOptions
from interlock.tools.tool import tool as make_tool

P = ParamSpec("P")
R = TypeVar("R")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Old = TypeVar("Old", bound=Message)
New = TypeVar("New", bound=Message)

Contracts = type[Message] | Iterable[type[Message]]


@dataclass(frozen=True)
class Workflow(Generic[Req, Res]):
    """A declared workflow: what `bus.submit` takes. `name` is the task type."""

    definition: WorkflowDefinition
    spec: WorkflowSpec
    result: type[Res]

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass
class App:
    """Agents, workflows and tools under one name. `App("billing")`, then declare with `tool`, `agent` and `workflow`.

    Deploying an app replaces what the app of that name declared before. Of one that is renamed, `formerly` says its earlier names:
    `App("invoices", formerly=("billing",))` replaces what `billing` declared. While `live` tasks are live, those that are parked aside, a
    submit is refused.
    """

    name: str
    agents: dict[str, AgentDefinition] = field(default_factory=dict)
    workflows: dict[str, Workflow[Any, Any]] = field(default_factory=dict)
    formerly: tuple[str, ...] = field(default=(), kw_only=True)
    limits: dict[tuple[str, str], dict[str, Amount]] = field(default_factory=dict, kw_only=True)
    live: int = field(default=LIVE_TASKS, kw_only=True)
    migrations: Migrations = field(default_factory=Migrations, kw_only=True)

    # --- tools -----------------------------------------------------------------------------------------------------------------

    def tool(self, **declared: Unpack[ToolOptions]) -> Declarer:
        """Declare a tool; its schema comes from hints and docstring. See `interlock.tools.tool.ToolOptions` for each argument."""
        return make_tool(**declared)

    # --- agents ----------------------------------------------------------------------------------------------------------------

    @overload
    def agent(
        self,
        name: str,
        *,
        version: str,
        instructions: str,
        accepts: Contracts,
        returns: Contracts,
        tools: Iterable[Tool[..., Any]] = (),
        model: str | None = None,
        fallback: Iterable[str] = (),
        resources: Callable[[], Mapping[str, Any]] | None = None,
        conversation: Conversation | None = None,
        **pool: Unpack[PoolOptions],
    ) -> AgentDefinition: ...

    @overload
    def agent(
        self,
        name: str,
        *,
        version: str,
        accepts: Contracts = (),
        returns: Contracts = (),
        tools: Iterable[Tool[..., Any]] = (),
        resources: Callable[[], Mapping[str, Any]] | None = None,
        **pool: Unpack[PoolOptions],
    ) -> Callable[[Callable[[Req, Any], Awaitable[Res]]], Callable[[Req, Any], Awaitable[Res]]]: ...

    def agent(
        self,
        name: str,
        *,
        version: str,
        instructions: str = "",
        accepts: Contracts = (),
        returns: Contracts = (),
        tools: Iterable[Tool[..., Any]] = (),
        model: str | None = None,
        fallback: Iterable[str] = (),
        resources: Callable[[], Mapping[str, Any]] | None = None,
        conversation: Conversation | None = None,
        **pool: Unpack[PoolOptions],
    ) -> Any:
        """Declare a specialist. With `instructions` it is a model with these tools; without, decorate `async def f(request, ctx)`,
        whose hints say which contracts it takes and returns. How its replicas run, and how many of them, `PoolOptions` says for each
        argument; `resources` makes, once per replica, what its tools find in `ctx.resources`. `conversation` bounds what a model says and
        does in one dispatch. Where its `model` gives no answer, those in `fallback` are asked in its place, one after the other.
        """
        self._check_agent(name)
        options = pool_fields(name, pool)
        if conversation is not None and not instructions:
            problem = "it has a conversation= and no instructions=, so no model that converses"
            raise BadDeclaration(what=f"agent {name}", problem=problem, remedy="Give it instructions, or leave conversation= out.")
        others = _fallback(name, model, fallback)

        def declare(function: Callable[..., Awaitable[Message]] | None, takes: Contracts, gives: Contracts) -> AgentDefinition:
            accepted, returned, own = _classes(takes), _classes(gives), tuple(tools)
            kind: Literal["model", "code"] = "code" if function is not None else "model"
            spec = replace(_agent_spec(name, version, kind, accepted, returned, own), **options)
            talk = conversation or Conversation()
            texts = (name, version, spec, function, instructions)
            definition = AgentDefinition(*texts, accepted, returned, own, resources, model, talk, others, self.migrations)
            self.agents[name] = definition
            return definition

        def decorate(function: Callable[..., Awaitable[Message]]) -> Callable[..., Awaitable[Message]]:
            if not inspect.iscoroutinefunction(function):
                raise BadDeclaration(what=f"agent {name}", problem="it is not a coroutine function", remedy="Write async def.")
            request, result = _contracts_of(function)
            declare(function, accepts or request, returns or result)
            return function

        return declare(None, accepts, returns) if instructions else decorate

    def _check_agent(self, name: str) -> None:
        if name in OWN_POOLS:
            raise BadDeclaration(what=f"agent {name}", problem="the bus has a pool of its own of this name", remedy="Give it another name.")
        if name in self.agents:
            raise BadDeclaration(what=f"agent {name}", problem="it is declared twice", remedy="Give the second one another name.")

    # --- workflows -------------------------------------------------------------------------------------------------------------

    def workflow(
        self,
        name: str,
        *,
        version: str,
        entry: Callable[[Any], object] | None = None,
        exit: Callable[..., object] | None = None,
        budget: Budget | None = None,
        undo: Budget | None = None,
        escalate: Escalate | None = None,
        receives: Contracts = (),
        resume_seconds: float = RESUME_SECONDS,
        memory: str | int = 0,
        repeats: int | None = REPEATS,
        goal: str = "",
        priority: Priority = NORMAL,
    ) -> Callable[[Callable[[Req, Any], Coroutine[Any, Any, Res]]], Workflow[Req, Res]]:
        """Declare a task type: decorate `async def f(request: Request, ctx: WorkflowContext) -> Result`.

        `entry(request)` must hold for a submit to be accepted, `exit` (over any of result, request, evidence, degraded) for the
        outcome `success`. `budget` are hard limits (default `Budget()`), `undo` those of its undoing (100 steps, that
        is undos), `escalate` says who decides what waits for a human. `receives` are the messages that may be sent into its running
        tasks, for `ctx.receive`. It asks within `resume_seconds`, or counts as hanging; `memory` (such as "500MB") bounds its runner
        (default: a share of the node). Where all it asks and hears has repeated `repeats` times, its next ask raises `LoopDetected`.
        `goal` (default: what the docstring says first) tells models what the task is for, as in "Answer {question}", which cites a field
        of the request; what `exit` says first in its docstring, else its name, tells them when it is done. Where tasks wait, those with a
        higher `priority` (low, normal, high) go first; a submit may name another.
        """
        received = _classes(receives)
        _check_workflow(name, resume_seconds, priority)

        def decorate(function: Callable[[Req, Any], Coroutine[Any, Any, Res]]) -> Workflow[Req, Res]:
            self._check_workflow(name)
            request, result = _one_of_each(name, function)
            definition = WorkflowDefinition(name, version, function, request, result, entry, exit, received, repeats, self.migrations)
            spec = WorkflowSpec(
                name=name,
                version=version,
                request=ContractRef(*contract_of(request)),
                result=ContractRef(*contract_of(result)),
                limits=(budget or Budget()).limits(),
                undo=undo.limits() if undo is not None else {},
                estimate=(budget or Budget()).estimate,
                escalate=escalate or Escalate(to="operators"),
                entry=condition_name(entry),
                exit=condition_name(exit),
                receives=tuple(ContractRef(*contract_of(cls)) for cls in received),
                resume_seconds=resume_seconds,
                memory=bytes_in(f"workflow {name}", memory),
                goal=goal or first_paragraph(function),
                until=until_of(exit),
                priority=priority,
            )
            check_goal(f"workflow {name}", spec.goal, request.json_schema())
            workflow: Workflow[Req, Res] = Workflow(definition, spec, cast(type[Res], result))
            self.workflows[name] = workflow
            return workflow

        return decorate

    def _check_workflow(self, name: str) -> None:
        _check_own(f"workflow {name}", name)
        if name in self.workflows:
            raise BadDeclaration(what=f"workflow {name}", problem="it is declared twice", remedy="Give the second one another name.")

    # --- migrations ------------------------------------------------------------------------------------------------------------

    def migration(self, source: type[Old], target: type[New]) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
        """Declare how a message of one major becomes one of another, up or down: decorate `def f(old: V1) -> V2`.

        Both are classes of one contract. It follows from the message alone, and raises ValueError where the other major has no such
        message; before the app runs it is tried on messages that its source's contract allows. The bus has it applied where the reader of a
        message knows only the other major, along the fewest migrations, and records which.
        """

        def decorate(function: Callable[[Old], New]) -> Callable[[Old], New]:
            self.migrations.declare(source, target, function)
            return function

        return decorate

    # --- limits that tasks share -----------------------------------------------------------------------------------------------

    def limit(
        self, scope: str, *, per: str = "", usd: str | Decimal | None = None, writes: Mapping[str, int] | None = None, **whole: int
    ) -> None:
        """Declare what the tasks of a scope may use together: `app.limit("tenant:acme", per="day", usd="100", tokens=5_000_000)`.

        `scope` is `bus`, `type:NAME` or `tenant:NAME`; `type:*` and `tenant:*` stand for each that has no limit of its own. `per` is
        `hour`, `day` or `month` of the UTC calendar, else the limit is for ever. `whole` are `tokens`, `input_tokens`, `output_tokens`
        and `steps`.
        It counts from its first deployment on, and an operator's word goes before it.
        """
        if isinstance(usd, float):
            raise BadDeclaration(what=f"limit {scope}", problem="a float is not exact money", remedy='Write usd="0.50".')
        asked: dict[str, Any] = {**whole, **{writes_meter(system): number for system, number in (writes or {}).items()}}
        limits = asked_limits(scope, per, asked if usd is None else {**asked, USD: usd})
        known = self.limits.setdefault((scope, per), {})
        known.update({meter: amount for meter, amount in limits.items() if amount is not None})

    # --- as data ---------------------------------------------------------------------------------------------------------------

    def spec(self) -> AppSpec:
        """The whole app as data, for those who never load its code."""
        tools: dict[str, Tool[..., Any]] = {}
        for agent in self.agents.values():
            for tool in agent.tools:
                if tools.setdefault(tool.spec.name, tool).spec != tool.spec:
                    raise BadDeclaration(
                        what=f"tool {tool.spec.name}", problem="two different tools have this name", remedy="Rename one of them."
                    )
        return AppSpec(
            name=self.name,
            agents=tuple(agent.spec for agent in self.agents.values()),
            workflows=tuple(workflow.spec for workflow in self.workflows.values()),
            tools=tuple(tool.spec for tool in tools.values()),
            schemas={f"{cls.contract} {cls.contract_version}": cls.json_schema() for cls in self._messages()},
            formerly=tuple(self.formerly),
            limits=tuple(ScopeLimits(scope, per, limits) for (scope, per), limits in self.limits.items()),
            live=check_live(self.name, self.live),
            migrations=tuple(migration.spec for migration in self.migrations),
        )

    def _messages(self) -> list[type[Message]]:
        classes = [cls for agent in self.agents.values() for cls in (*agent.accepts, *agent.returns)]
        for flow in self.workflows.values():
            classes += [flow.definition.request, flow.definition.result, *flow.definition.receives]
        for migration in self.migrations:
            classes += [migration.source, migration.target]
        for cls in classes:
            _check_own(f"class {cls.__name__}", cls.contract)
        return list(dict.fromkeys(classes))


def _check_own(what: str, name: str) -> None:
    """What begins with `interlock.` is the bus's own."""
    if name.startswith("interlock."):
        raise BadDeclaration(what=what, problem=f"{name} is a name of the bus's own kind", remedy="Give it another name.")


def _fallback(agent: str, model: str | None, fallback: Iterable[str]) -> tuple[str, ...]:
    """The models to be asked in the place of `model`; `BadDeclaration` where they are none, or one stands there twice."""
    models = () if isinstance(fallback, str) else tuple(fallback)
    named = [one for one in (model, *models) if one is not None]
    if isinstance(fallback, str) or not all(isinstance(one, str) and one for one in models) or len(set(named)) < len(named):
        remedy = 'Write fallback=("second", "third"): names of models, each once, and not that of model=.'
        raise BadDeclaration(what=f"agent {agent}", problem=f"fallback={fallback!r} is no list of other models", remedy=remedy)
    return models


def _check_workflow(name: str, resume_seconds: float, priority: str) -> None:
    if not 0 < resume_seconds <= LONGEST_SECONDS:  # also false of a NaN
        problem = f"resume_seconds={resume_seconds} is no time within which it could decide anything"
        raise BadDeclaration(what=f"workflow {name}", problem=problem, remedy="Write as in resume_seconds=10.")
    if priority not in PRIORITIES:
        raise BadDeclaration(what=f"workflow {name}", problem=f"priority={priority!r} is none", remedy='Write as in priority="high".')


def _agent_spec(
    name: str,
    version: str,
    kind: Literal["model", "code"],
    accepted: tuple[type[Message], ...],
    returned: tuple[type[Message], ...],
    tools: tuple[Tool[..., Any], ...],
) -> AgentSpec:
    if not accepted or not returned:
        remedy = "Give accepts= and returns=, or hints: async def f(request: Request, ctx: AgentContext) -> Reply."
        raise BadDeclaration(what=f"agent {name}", problem="its contracts are not known", remedy=remedy)
    return AgentSpec(
        name=name,
        version=version,
        accepts=tuple(ContractRef(*contract_of(cls)) for cls in accepted),
        returns=tuple(ContractRef(*contract_of(cls)) for cls in returned),
        tools=tuple(tool.spec.name for tool in tools),
        kind=kind,
    )


def _classes(contracts: Contracts) -> tuple[type[Message], ...]:
    return (contracts,) if isinstance(contracts, type) else tuple(contracts)


def _contracts_of(function: Callable[..., Any]) -> tuple[tuple[type[Message], ...], tuple[type[Message], ...]]:
    """The message classes in a function's hints: of its first parameter, and of what it returns."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        what = f"function {function.__name__}"
        raise BadDeclaration(what=what, problem=f"a hint cannot be resolved ({error})", remedy="Define the class before.") from None
    first = next(iter(inspect.signature(function).parameters), "")
    return _of_hint(hints.get(first)), _of_hint(hints.get("return"))


def _one_of_each(name: str, function: Callable[..., Any]) -> tuple[type[Message], type[Message]]:
    """The request and the result of a workflow, as its hints say them."""
    match _contracts_of(function):
        case (request,), (result,):
            return request, result
    remedy = "Write async def f(request: Request, ctx: WorkflowContext) -> Result with one Message class each."
    raise BadDeclaration(what=f"workflow {name}", problem="its hints do not name one request and one result", remedy=remedy)


def _of_hint(hint: Any) -> tuple[type[Message], ...]:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)
    return tuple(part for part in parts if isinstance(part, type) and issubclass(part, Message))
