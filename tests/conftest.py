"""What all tests share: laws are tried without a clock, for a machine may be slow for a moment; and a PostgreSQL of the tests' own, made of
the system's binaries, with fsync as in production; without them those who need it are skipped."""

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings
from postgres_server import Server, binaries

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL here: there is no initdb on PATH or under /usr/lib/postgresql")
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(server.folder)
