"""Launching, without a Ray: what is left behind when it fails, and which bus is meant."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock import launch
from interlock.cluster import driver, head
from interlock.schemas.errors import AlreadyRunning, BadDeclaration, InterlockError, NoLedger, NotBorn, NotRunning


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


@pytest.mark.parametrize(
    ("name", "there", "stopped", "kept"),
    [
        (None, ["shop"], ["supervisor", "ray"], False),
        ("shop", [], ["ray"], False),
        ("other", ["other"], ["supervisor"], True),
        ("othr", [], None, True),
    ],
)
def test_a_name_that_is_not_this_home_s_stops_that_bus_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | None, there: list[str], stopped: list[str] | None, kept: bool
) -> None:
    head.note(tmp_path, address="h:1", name="shop", own=True)

    async def remove(name: str) -> list[str]:
        return ["supervisor"] if name in there else []

    monkeypatch.setattr(launch, "remove", remove)
    monkeypatch.setattr(head, "connect", lambda where, name: True)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    if stopped is None:
        with pytest.raises(NotRunning, match="No bus is running at h:1 under the name othr"):
            launch.down(name=name, home=tmp_path)
    else:
        assert launch.down(name=name, home=tmp_path) == {"stopped": stopped}
    assert (head.noted(tmp_path) is not None) is kept


def test_a_ledger_that_cannot_be_opened_is_said_before_anything_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(home: Path) -> str:
        raise AssertionError("nothing is to be started")

    monkeypatch.setattr(head, "start", start)
    monkeypatch.delenv("INTERLOCK_LEDGER", raising=False)
    (tmp_path / "ledger.db").write_bytes(b"junk" * 3000)
    with pytest.raises(NoLedger, match=r"cannot be read \(file is not a database\)\. Nothing was done .*`interlock ledger restore`"):
        launch.up(None, address=None, name=None, home=tmp_path)
    monkeypatch.setenv("INTERLOCK_LEDGER", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(InterlockError, match="the server cannot be reached"):
        launch.up(None, address=None, name=None, home=tmp_path)


def test_an_app_without_a_name_is_not_no_app(tmp_path: Path) -> None:
    with pytest.raises(BadDeclaration, match="app '': it does not name a module and an app in it"):
        launch.up("", address=None, name=None, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "it is not HOST:PORT"),
        ("nowhere", "it is not HOST:PORT"),
        ("127.0.0.1:99999999", "No bus is running"),
        ("127.0.0.1:1", "No bus is running"),
    ],
)
def test_an_address_where_nobody_listens_is_said_at_once(monkeypatch: pytest.MonkeyPatch, address: str, problem: str) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises((BadDeclaration, NotRunning), match=problem):
        head.connect(address, "shop")


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b"{"])
def test_a_note_that_no_bus_wrote_is_said_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bus.json").write_bytes(content)
    with pytest.raises(InterlockError, match=r"bus\.json is not what a bus wrote there, .* remove it, then `interlock up`"):
        head.noted(tmp_path)


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
