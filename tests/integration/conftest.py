"""One Ray for all integration tests, one bus per module; whatever was started is stopped by its own handle."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import ray

from interlock.app import App
from interlock.cluster import head
from interlock.loading import load_app
from interlock.testing.scripted_model import ScriptedModel

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    head.connect("local", "tests", num_cpus=64, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def invoicing(tmp_path_factory: pytest.TempPathFactory) -> tuple[App, Path]:
    """The invoicing app on a new orders database, and the database's path."""
    path = tmp_path_factory.mktemp("orders") / "orders.db"
    loaded = load_app(f"{EXAMPLES / 'invoicing' / 'app.py'}:app")
    module = import_module(loaded.workflows["invoice_generation"].definition.function.__module__)
    module.make_database(path)
    return module.make_app(path), path


@pytest.fixture(scope="module")
def invoicing_model() -> Iterator[ScriptedModel]:
    with ScriptedModel.start(EXAMPLES / "invoicing" / "playbook.json") as model:
        yield model
