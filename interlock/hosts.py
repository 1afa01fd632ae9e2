"""How a peer is made, on a cluster and in one process alike: both wirings call the same functions, so they cannot drift apart."""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from interlock.actors import drill, undo
from interlock.actors.host import Notes, Replica
from interlock.actors.loop import ModelLoop
from interlock.actors.mailbox import Mailbox
from interlock.actors.runner import Board, Runner
from interlock.app import App
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.needs import Needs
from interlock.schemas.ports import Budgets, Clock
from interlock.settings import DEFAULT_BASE_URL, ModelSettings

if TYPE_CHECKING:
    from interlock.actors.models.gateway import Gateway
    from interlock.actors.models.wire import ChatCompletions, Wire


def runner(app: App, notes: Board | None = None) -> Runner:
    """A runner of all the app's workflows, and of the bus's own."""
    own = {one.name: one for one in (drill.DEFINITION, undo.DEFINITION)}
    return Runner({**own, **{name: workflow.definition for name, workflow in app.workflows.items()}}, notes)


def replica(app: App, pool: str, incarnation: str, model: str, secrets: Mapping[str, str], notes: Notes | None = None) -> Mailbox:
    """A replica of the agent that the pool is named after. `model`: the one that an agent without a model of its own uses."""
    definition = app.agents[pool]
    return Replica(definition, definition.function or ModelLoop(definition, model), incarnation, notes, dict(secrets))


def gateway(budgets: Budgets, wire: "Wire", model: ModelSettings, clock: Clock, incarnation: str) -> "Gateway":
    """A model gateway on that wire."""
    from interlock.actors.models.bounds import read_bounds
    from interlock.actors.models.gateway import Gateway  # the SDK takes a second to load, which nobody else needs
    from interlock.actors.models.prices import Prices, read_overrides
    from interlock.actors.models.rates import Rates, read_rates

    prices = Prices(wire.endpoint.base_url, clock, read_overrides(model.prices))
    rates, bounds = Rates(read_rates(model.rates)), read_bounds(model.bounds)
    return Gateway(budgets, wire, prices, random.Random(incarnation), incarnation=incarnation, rates=rates, bounds=bounds)


def endpoint(model: ModelSettings) -> "ChatCompletions":
    """The wire to the endpoint that the settings name."""
    from interlock.actors.models.wire import ChatCompletions, Endpoint

    return ChatCompletions(Endpoint(model.base_url or DEFAULT_BASE_URL, model.api_key or "none"))


def memory_of(app: App, kind: str, pool: str, share: int) -> int:
    """The bytes that a peer may use: as declared, else `share`. A runner runs all workflows, so the largest of theirs."""
    if kind == "runner":
        return max((workflow.spec.memory or share for workflow in app.workflows.values()), default=share)
    return app.agents[pool].spec.memory or share


def declared_secrets(app: App) -> dict[str, list[str]]:
    """Per agent the names of the secrets that its tools declare."""
    return {agent.name: sorted({name for tool in agent.tools for name in tool.spec.secrets}) for agent in app.agents.values()}


def needs_of(app: App) -> dict[str, Needs]:
    """Per agent what its replicas need of a node, where they need anything."""
    return {agent.name: agent.spec.needs for agent in app.agents.values() if agent.spec.needs != Needs()}


def secrets_of(app: App, environment: Mapping[str, str]) -> dict[str, str]:
    """The values of all declared secrets. Raises `BadDeclaration` where one is not set: better now than in the middle of a task."""
    needed = {name: agent for agent, names in declared_secrets(app).items() for name in names}
    missing = sorted(name for name in needed if name not in environment)
    if missing:
        raise BadDeclaration(
            what=f"secret {', '.join(missing)}",
            problem=f"a tool of agent {needed[missing[0]]} declares it and the environment does not have it",
            remedy="Set it where the bus is started, or take it out of secrets=.",
        )
    return {name: environment[name] for name in needed}


def model_wire(app: App, model: ModelSettings) -> "Wire | None":
    """The way to the models that the app needs, none where no agent is a model; `NoModel` where none is configured."""
    if not any(definition.function is None for definition in app.agents.values()):
        return None
    if not all(definition.model for definition in app.agents.values() if definition.function is None):
        model = model.required()
    return endpoint(model)
