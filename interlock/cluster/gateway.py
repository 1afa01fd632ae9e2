"""A model gateway's host, as its process makes it: the only one that reads the key."""

import random

import ray

from interlock.actors.models.gateway import Gateway
from interlock.actors.models.prices import Prices, read_overrides
from interlock.actors.models.wire import ChatCompletions, Endpoint
from interlock.clock import SystemClock
from interlock.cluster.config import MODEL_KEY, SUPERVISOR, BusConfig, read_secrets
from interlock.cluster.ports import RayBudgets
from interlock.settings import DEFAULT_BASE_URL


def gateway(config: BusConfig, incarnation: str) -> Gateway:
    """A gateway to the endpoint that the bus was started with."""
    model = config.model
    key = read_secrets(config.home, [MODEL_KEY]).get(MODEL_KEY, "")
    supervisor = ray.get_actor(SUPERVISOR, namespace=config.name)
    wire = ChatCompletions(Endpoint(model.base_url or DEFAULT_BASE_URL, key or "none"))
    prices = Prices(wire.endpoint.base_url, SystemClock(), read_overrides(model.prices))
    return Gateway(RayBudgets(supervisor), wire, prices, random.Random(incarnation))
