"""One Ray for all integration tests, one bus per app; whatever was started is stopped by its own handle.

No test leaves a bus other than whole: who was killed is replaced, and who comes after waits for that.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray

from interlock import App
from interlock.cluster import head
from interlock.loading import load_app
from interlock.settings import ModelSettings
from interlock.testing.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from stage import Stage

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    head.connect("local", "tests", num_cpus=64, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def invoicing(tmp_path_factory: pytest.TempPathFactory) -> tuple[App, Path]:
    """The invoicing app on a new orders database, and the database's path."""
    path = tmp_path_factory.mktemp("orders") / "orders.db"
    loaded = load_app(f"{EXAMPLES / 'invoicing' / 'app.py'}:app")
    module = import_module(loaded.workflows["invoice_generation"].definition.function.__module__)
    module.make_database(path)
    return module.make_app(path), path


@pytest.fixture(scope="session")
def invoicing_model() -> Iterator[ScriptedModel]:
    with ScriptedModel.start(EXAMPLES / "invoicing" / "playbook.json") as model:
        yield model


@pytest.fixture(scope="session")
def billing(
    shared_ray: None, invoicing: tuple[App, Path], invoicing_model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Stage]":
    """The invoicing app at work: one order has its draft already."""
    from stage import on_stage

    model = ModelSettings(base_url=invoicing_model.base_url, model="scripted-1")
    with on_stage(invoicing[0], tmp_path_factory.mktemp("bus"), model) as stage:
        stage.bus.submit_json("invoice_generation", {"order_id": "7294"}).result(timeout=60)
        yield stage


@pytest.fixture(scope="session")
def stage(shared_ray: None, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Stage]":
    """The app whose actors are killed and whose tasks are stopped."""
    from stage import make_app, on_stage

    with on_stage(make_app(), tmp_path_factory.mktemp("bus")) as stage:
        yield stage
