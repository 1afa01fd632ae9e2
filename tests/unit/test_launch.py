"""Launching, without a Ray: what is left behind when it fails, and which bus is meant."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock import launch
from interlock.cluster import driver, head
from interlock.schemas.errors import AlreadyRunning, InterlockError, NotBorn


@pytest.mark.parametrize(("error", "removed"), [(NotBorn(pool="clerk", problem="no module"), ["shop"]), (AlreadyRunning(name="shop"), [])])
def test_a_start_on_somebody_s_ray_that_fails_leaves_nothing_but_what_was_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: InterlockError, removed: list[str]
) -> None:
    found: list[str] = []

    async def place(*args: Any, **more: Any) -> None:
        raise error

    async def remove(name: str) -> list[str]:
        found.append(name)
        return []

    monkeypatch.setattr(launch, "place", place)
    monkeypatch.setattr(launch, "remove", remove)
    monkeypatch.setattr(head, "connect", lambda where, name: True)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(type(error)):
        launch.up(None, address="h:1", name="shop", home=tmp_path / "home")
    assert found == removed
    assert head.noted(tmp_path / "home") is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ((None, None), ("h:1", "shop", True)),
        (("h:1", None), ("h:1", "shop", True)),
        (("h:2", None), ("h:2", "interlock", False)),
        ((None, "other"), ("h:1", "other", False)),
    ],
)
def test_the_bus_of_this_home_is_meant_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: tuple[str | None, str | None], meant: tuple[str, str, bool]
) -> None:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    head.note(tmp_path, address="h:1", name="shop", own=False)
    made: list[tuple[str, str, bool]] = []
    monkeypatch.setattr(head, "connect", lambda where, name: True)
    monkeypatch.setattr(driver, "ClusterBackend", lambda name, address, home: made.append((address, name, home is not None)))
    address, name = asked
    asyncio.run(driver.connect(address, name=name))
    assert made == [meant]


def test_a_driver_ends_without_ray_s_wait_for_output_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Any] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # another test's bus may stand in this process
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr(head, "_hush", lambda: None)
    monkeypatch.setattr("atexit.register", at_exit.append)
    assert head.connect("local", "shop")
    assert at_exit == [head.ray.shutdown]


def test_a_driver_on_ray_s_client_has_nothing_to_hush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head.ray._private.worker, "global_worker", object())
    head._hush()
