"""`cluster.yaml` is one that `ray up` takes: it passes Ray's own preparation and validation."""

import importlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster.yaml"


@pytest.fixture(scope="module")
def ray_util() -> Any:
    """Imports Ray (a second), starts none."""
    return importlib.import_module("ray.autoscaler._private.util")


@pytest.fixture
def written() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(CLUSTER.read_text())
    return config


def test_ray_prepares_and_validates_it(ray_util: Any, written: dict[str, Any]) -> None:
    prepared = ray_util.prepare_config(deepcopy(written))
    ray_util.validate_config(prepared)
    workers = len(written["provider"]["worker_ips"])
    node = prepared["available_node_types"]["local.cluster.node"]
    assert (prepared["max_workers"], node["min_workers"], node["max_workers"]) == (workers, workers, workers)
    assert prepared["head_start_ray_commands"] == written["head_start_ray_commands"]


def test_the_validation_would_see_a_mistake(ray_util: Any, written: dict[str, Any]) -> None:
    prepared = ray_util.prepare_config(written)
    with pytest.raises(jsonschema.ValidationError):
        ray_util.validate_config({**prepared, "worker_comands": []})


def test_every_node_asks_for_the_token(written: dict[str, Any]) -> None:
    starts = [command for kind in ("head", "worker") for command in written[f"{kind}_start_ray_commands"] if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)


def test_it_holds_placeholders_only(written: dict[str, Any]) -> None:
    provider, auth = written["provider"], written["auth"]
    values = [provider["head_ip"], *provider["worker_ips"], *auth.values()]
    assert all(value.startswith("<") and value.endswith(">") for value in values)
