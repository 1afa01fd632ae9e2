"""What all tests share: laws are tried without a clock, for a machine may be slow for a moment; who is run where, if tests run side by
side; and a PostgreSQL of the tests' own, made of the system's binaries, with fsync as in production; without them those who need it are
skipped."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from postgres_server import Server, binaries
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Ray lets its workers give way to everybody else, who would be the other tests: whoever is killed then comes back late.
os.environ.setdefault("RAY_worker_niceness", "0")

LONGEST_FIRST = ("integration", "acceptance", "simulation", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.parent.name))


class Sharing(LoadScopeScheduling):
    """Who is run in one process, one after the other, where several share the tests: all who share one Ray; the tests of a file, that share
    what they have set up; each share of the storms by itself."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        if file.stem == "test_storms":
            return nodeid
        return "ray" if file.parent.name == "integration" else file.stem


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    return Sharing(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """What a test has logged travels from process to process: words that no encoding knows would not arrive."""
    report: pytest.TestReport = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


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
