"""The example keeps its word: one test fails, the wrong diff does not help, the right one does, and one test more is one too many."""

import asyncio
from pathlib import Path

import pytest

from interlock.delivery_example import EXAMPLE, diff, make_repository
from interlock.schemas.errors import InterlockError, Refused
from interlock.tools import run_tests
from interlock.tools.git import Repository
from interlock.tools.patch import apply
from interlock.tools.sandbox import choose


def outcome(path: Path, change: str = "") -> tuple[bool, str]:
    """Whether the tests pass in a scratch worktree with the change applied, and what they said."""

    async def main() -> tuple[bool, str]:
        repository = await Repository.open(path)
        async with repository.worktree("main") as worktree:
            if change:
                await apply(worktree.path, change)
            argv = run_tests.detect(worktree.path)
            assert argv is not None
            done = await run_tests.run(choose(unsafe=True), worktree.path, argv, 30, {})
            assert sorted(await repository.files("main")) == sorted(
                str(file.relative_to(worktree.path)) for file in worktree.path.rglob("*") if file.is_file()
            ), "the tests left something behind"
            return done.passed, done.output

    return asyncio.run(main())


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("example") / "splitbill"
    make_repository(path)
    return path


@pytest.fixture(scope="module")
def harder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("harder") / "splitbill"
    make_repository(path, extra_failing_test=True)
    return path


def test_one_test_fails_at_first(example: Path) -> None:
    passed, output = outcome(example)
    assert not passed
    assert "FAIL: test_no_cent_is_lost" in output
    assert "FAILED (failures=1)" in output


def test_the_wrong_diff_breaks_another(example: Path) -> None:
    passed, output = outcome(example, diff("wrong"))
    assert not passed
    assert "FAIL: test_equal_weights_differ_by_one_cent_at_most" in output
    assert "FAILED (failures=1)" in output


def test_with_the_right_diff_all_pass(example: Path) -> None:
    passed, output = outcome(example, diff("right"))
    assert passed
    assert "Ran 7 tests" in output


def test_with_one_more_requirement_neither_is_enough(harder: Path) -> None:
    for name in ("wrong", "right"):
        passed, output = outcome(harder, diff(name))
        assert not passed
        assert "ERROR: test_thousands_may_be_separated" in output


def test_the_repository_is_the_same_everywhere(tmp_path: Path) -> None:
    assert make_repository(tmp_path / "one") == make_repository(tmp_path / "two")
    with pytest.raises(Refused, match="not an empty directory"):
        make_repository(tmp_path)


def test_git_s_own_words_are_told_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.delivery_example.environment", lambda: {"PATH": "/usr/bin:/bin", "GIT_CONFIG_COUNT": "many"})
    with pytest.raises(InterlockError, match=r"git init failed: .*GIT_CONFIG_COUNT"):
        make_repository(tmp_path / "one")


def test_the_readme_names_what_is_there() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    for name in ("repository", "diffs/wrong.diff", "diffs/right.diff", "extra"):
        assert f"`{name}" in readme
        assert (EXAMPLE / name).exists()
