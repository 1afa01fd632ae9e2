"""A Ray of our own on this machine, for `interlock up` without an address, and the way to any Ray.

The file `bus.json` in the home folder says where the bus is, so that the next command finds it.
"""

import atexit
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

from interlock.cluster.config import BUS_FILE, CHECKPOINTS
from interlock.schemas.errors import BadDeclaration, NotRunning, RayFailed
from interlock.schemas.places import LEDGER_VARIABLE
from interlock.settings import noted as noted_in

ADDRESS = "127.0.0.1"
START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 60.0, 15.0, 10.0
LOG_FILE, PID_FILE = "ray.log", "ray.pid"

_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE")
_PASSED_PREFIXES = ("LC_", "RAY_", "OTEL_", "INTERLOCK_")


def _is_passed(name: str) -> bool:
    """A URL that takes checkpoints may hold a token, a database's a password: only the trusted base gets them, by the file of secrets."""
    return name not in (CHECKPOINTS, LEDGER_VARIABLE) and (name in _PASSED or name.startswith(_PASSED_PREFIXES))


def start(home: Path) -> str:
    """Start a Ray with `ray start --block` in a session of its own; its address. Raises `RayFailed` with what it printed."""
    port = _free_port()
    words = ["start", "--head", "--block", f"--port={port}", f"--node-ip-address={ADDRESS}", "--include-dashboard=false"]
    words += [f"--num-cpus={max(16, os.cpu_count() or 1)}", "--disable-usage-stats"]
    # Nothing is scaled here, and no driver shows its workers' logs: two processes less to wait for.
    words += ["--no-monitor", "--include-log-monitor=false"]
    environment = {name: value for name, value in os.environ.items() if _is_passed(name)}
    log = home / LOG_FILE
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    (home / PID_FILE).write_text(json.dumps([process.pid, psutil.Process(process.pid).create_time()]))
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(home)
            raise RayFailed(log=str(log), said=log.read_text(errors="replace").strip()[-400:])
        time.sleep(0.1)
    return f"{ADDRESS}:{port}"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def running(home: Path) -> psutil.Process | None:
    """The Ray that `start` started for this home, if it lives: found by its process id and start time."""
    pid, created = noted_in(home / PID_FILE, list) or (0, 0)
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return root if root.create_time() == created else None


def stop(home: Path) -> None:
    """End the Ray that `start` started, and nothing else."""
    root = running(home)
    if root is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        children = root.children(recursive=True)
        root.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(children, STOP_SECONDS)
        left.append(root)  # with its children gone it does nothing more than look, every few seconds, whether they are
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, STOP_SECONDS)
    (home / PID_FILE).unlink()


def connect(address: str, name: str, **settings: Any) -> bool:
    """Connect this process to a Ray; false where it is connected already. Raises `NotRunning`.

    `address="local"` makes one for as long as this process lives.
    """
    if ray.is_initialized():
        return False
    _look_for(address)
    with _quiet():
        if address != "local":
            # Ray reads RAY_AUTH_MODE once, when it is imported: later only this sets it for the process.
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        try:
            ray.init(address=address, namespace=name, log_to_driver=False, logging_level=logging.ERROR, **settings)
        except (ConnectionError, RuntimeError) as error:
            raise NotRunning(address=address, cause=str(error)) from None
        except ValueError as error:
            raise _no_address(address) if "address" in str(error).lower() else error from None
        _hush()
    # Ray's own way out of a process sleeps half a second for workers' output, of which there is none.
    atexit.register(ray.shutdown)
    return True


def _look_for(address: str) -> None:
    """Whether somebody listens there at all: Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return
    try:
        socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), LOOK_SECONDS).close()
    except OSError as error:
        raise NotRunning(address=address, cause=str(error)) from None


def _no_address(address: str) -> BadDeclaration:
    remedy = "Leave --address out for the bus of this INTERLOCK_HOME."
    return BadDeclaration(what=f"address '{address}'", problem="it is not HOST:PORT of a Ray cluster", remedy=remedy)


def _hush() -> None:
    """Ray prints every process that ended into its driver's standard output, also those that a kill shall end, and has no switch for
    it: end the thread that does, as `ray.shutdown` will."""
    worker = ray._private.worker.global_worker
    subscriber = getattr(worker, "gcs_error_subscriber", None)
    if subscriber is not None:  # a driver on ray:// has none: what prints there is another process
        worker.threads_stopped.set()
        subscriber.close()


@contextlib.contextmanager
def _quiet() -> Any:
    """Ray greets on the log while it starts; our users did not ask it to."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def note(home: Path, *, address: str, name: str, own: bool) -> None:
    """Remember where the bus of this home is."""
    (home / BUS_FILE).write_text(json.dumps({"address": address, "name": name, "own": own}))


def noted(home: Path) -> dict[str, Any] | None:
    """Where the bus of this home is, none where none was noted."""
    return noted_in(home / BUS_FILE, dict)


def forget(home: Path) -> None:
    (home / BUS_FILE).unlink(missing_ok=True)
