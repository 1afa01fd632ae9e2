"""A real PostgreSQL server for tests: its own data folder, a unix socket and no port. It refuses root, so root runs it as `nobody`."""

import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from interlock.schemas.places import Database


def binaries() -> Path | None:
    """Where `initdb`, `pg_ctl` and `postgres` are: in one folder."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if all((place / name).exists() for name in ("initdb", "pg_ctl", "postgres"))), None)


class Server:
    """`start` it; `database` makes a new, empty database; `end` it."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._as: dict[str, Any] = {}
        self._numbers = count(1)
        self._made: set[str] = set()
        self.folder = Path(tempfile.mkdtemp(prefix="ilpg", dir="/tmp"))  # a socket's path must be short
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def start(self) -> None:
        self._run("initdb", "--auth=trust", "--username=interlock", "--encoding=UTF8", "--locale=C", "--no-sync")
        with (self.folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nrecovery_init_sync_method = syncfs\n")
        self._control("start")

    def database(self) -> Database:
        """An empty database. There are three, used in turn: to make one takes a second."""
        name = f"test_{next(self._numbers) % 3}"
        if name not in self._made:
            self._made.add(name)
            with psycopg.connect(self.url("postgres"), autocommit=True) as db:
                db.execute(f"CREATE DATABASE {name}".encode())
        with psycopg.connect(self.url(name), autocommit=True) as db:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            db.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
            db.execute("DROP SCHEMA IF EXISTS interlock_ledger, interlock_supervisor CASCADE")
        return Database(self.url(name))

    def url(self, name: str) -> str:
        return f"postgresql://interlock@/{name}?host={self.folder}"

    def restart(self) -> None:
        """As a crash and a recovery: nothing is flushed, every connection is cut."""
        self._control("restart", "-m", "immediate")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def start_again(self) -> None:
        self._control("start")

    def end(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), *words)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._binaries / program), "-D", str(self.folder / "data"), *words]
        said = self.folder / "said"  # not a pipe: the server keeps what it was given
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        with said.open("wb") as output:
            done = subprocess.run(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=120,
                check=False,
                **self._as,
            )
        assert done.returncode == 0, said.read_text()
