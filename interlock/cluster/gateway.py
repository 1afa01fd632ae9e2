"""A model gateway's host, as its process makes it: the only one that reads the key."""

from dataclasses import replace

import ray

from interlock import hosts
from interlock.actors.models.gateway import Gateway
from interlock.clock import SystemClock
from interlock.cluster.config import MODEL_KEY, SUPERVISOR, BusConfig, read_secrets
from interlock.cluster.ports import RayBudgets


def gateway(config: BusConfig, incarnation: str) -> Gateway:
    """A gateway to the endpoint that the bus was started with."""
    model = replace(config.model, api_key=read_secrets(config.home, [MODEL_KEY]).get(MODEL_KEY, ""))
    supervisor = ray.get_actor(SUPERVISOR, namespace=config.name)
    return hosts.gateway(RayBudgets(supervisor), hosts.endpoint(model), model, SystemClock(), incarnation)
