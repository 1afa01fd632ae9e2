"""The user's checkout is never touched, nobody's hooks run, and a commit happens once."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from interlock.schemas.errors import BranchMoved, GitFailed, NotARepository
from interlock.tools.git import Repository, Worktree

T = TypeVar("T")
WHEN = 1_760_000_000_000_000
BRANCH = "interlock/staging"


def shell(root: Path, *words: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@x", "HOME": str(root)}
    settings |= {"GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@x", "PATH": os.environ["PATH"]}
    return subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", *words], cwd=root, env=settings, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in the middle of somebody's work: staged, changed, ignored and unknown files, a hook and odd settings."""
    root = tmp_path / "checkout"
    root.mkdir()
    shell(root, "init", "-q", "-b", "main")
    (root / "code.py").write_text("x = 1\n")
    (root / "sub dir").mkdir()
    (root / "sub dir" / "ünï.txt").write_text("ü\n")
    (root / ".gitignore").write_text("*.log\n")
    shell(root, "add", "-A")
    shell(root, "commit", "-q", "-m", "first")
    (root / "code.py").write_text("x = 2  # not finished\n")
    (root / "staged.py").write_text("y = 1\n")
    shell(root, "add", "staged.py")
    (root / "noise.log").write_text("noise\n")
    (root / "unknown.txt").write_text("?\n")
    for hook in ("pre-commit", "post-commit", "reference-transaction", "post-checkout", "fsmonitor"):
        path = root / ".git" / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hook-ran'\nexit 1\n")
        path.chmod(0o755)
    for name, value in {"core.fsmonitor": ".git/hooks/fsmonitor", "core.splitIndex": "true", "diff.noprefix": "true"}.items():
        shell(root, "config", name, value)
    return root


def fingerprint(root: Path) -> str:
    """Of the checkout, its index, its HEAD, its settings and every branch that is not ours."""
    seen = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if inside.parts[0] == ".git" and inside.parts[1:2] in (("objects",), ("logs",), ("refs",)):
            continue
        seen.update(f"{inside} {path.lstat().st_mode} {path.lstat().st_mtime_ns if path.is_file() else ''}".encode())
        seen.update(path.read_bytes() if path.is_file() else b"")
    branches = shell(root, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return "\n".join([seen.hexdigest(), *(branch for branch in branches if not branch.endswith(BRANCH))])


def within(root: Path, rev: str, work: Callable[[Repository, Worktree], Awaitable[T]]) -> T:
    """Do `work` in a scratch worktree; the user's checkout must be the same before and after."""

    async def main() -> T:
        repository = await Repository.open(root)
        async with repository.worktree(rev) as worktree:
            scratch = worktree.path
            result = await work(repository, worktree)
        assert not scratch.parent.exists()
        return result

    before = fingerprint(root)
    result = asyncio.run(main())
    assert fingerprint(root) == before
    assert not (root.parent / "hook-ran").exists()
    return result


async def change(repository: Repository, worktree: Worktree, key: str = "eff_1", text: str = "x = 3\n", branch: str = BRANCH) -> str:
    (worktree.path / "code.py").write_text(text)
    return await repository.commit(worktree, branch, "Correct x", key=key, when=WHEN)


def test_only_a_repository_with_a_commit_opens(tmp_path: Path, root: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere", root / "code.py"):
        with pytest.raises(NotARepository, match="--repo"):
            asyncio.run(Repository.open(path))
    shell(empty, "init", "-q")
    with pytest.raises(NotARepository):
        asyncio.run(Repository.open(empty))
    asyncio.run(Repository.open(root / "sub dir"))


def test_somebody_elses_and_a_bare_repository_open_too(tmp_path: Path, root: Path) -> None:
    shell(tmp_path, "clone", "-q", "--bare", str(root), "bare")
    if os.geteuid() == 0:
        os.chown(tmp_path / "bare", 65534, 65534)
    assert asyncio.run(Repository.open(tmp_path / "bare"))


def test_commits_and_files_are_read_as_committed(root: Path) -> None:
    async def main() -> None:
        repository = await Repository.open(root)
        head = await repository.head()
        assert head == await repository.resolve("main") == shell(root, "rev-parse", "HEAD")
        assert await repository.files("main") == [".gitignore", "code.py", "sub dir/ünï.txt"]
        assert await repository.read(head, "code.py") == "x = 1\n"
        assert await repository.read(head, "sub dir/ünï.txt") == "ü\n"
        for wrong in ("no-such-branch", "--help", "", "main:code.py"):
            with pytest.raises(GitFailed):
                await repository.resolve(wrong)
        for wrong in ("unknown.txt", "../x", "sub dir"):
            with pytest.raises(GitFailed):
                await repository.read(head, wrong)

    before = fingerprint(root)
    asyncio.run(main())
    assert fingerprint(root) == before


def test_a_worktree_holds_the_commit_and_nothing_of_git(root: Path) -> None:
    async def look(_: Repository, worktree: Worktree) -> list[str]:
        assert (worktree.path / "code.py").read_text() == "x = 1\n"
        return sorted(os.listdir(worktree.path))

    assert within(root, "HEAD", look) == [".gitignore", "code.py", "sub dir"]
    assert shell(root, "worktree", "list").count("\n") == 0


def ran(root: Path) -> str:
    """A command that says that it ran and hands its input on."""
    return f"sh -c 'echo $1 >>{root.parent}/filter-ran; cat' --"


@pytest.mark.parametrize("included", [False, True])
def test_no_program_of_the_configuration_runs(root: Path, included: bool) -> None:
    programs = {"filter.evil.smudge": "smudge", "filter.evil.clean": "clean", "filter.evil.process": "process"}
    programs |= {"diff.evil.textconv": "textconv", "diff.evil.command": "command", "merge.evil.driver": "driver"}
    (root / ".gitattributes").write_text('*.txt filter=evil diff=evil merge=evil\n"*.py" filter=evil\n')
    (root / "a.txt").write_text("a\n")
    shell(root, "-c", "core.fsmonitor=false", "add", ".gitattributes", "a.txt")
    shell(root, "-c", "core.fsmonitor=false", "commit", "-q", "-m", "filters", "--", ".gitattributes", "a.txt")
    if included:
        shell(root, "config", "include.path", "more")
    for name, said in programs.items():
        where = ("--file", str(root / ".git" / "more")) if included else ()
        shell(root, "config", *where, name, f"{ran(root)} {said}")
    shell(root, "config", "filter.evil.required", "true")

    async def work(repository: Repository, worktree: Worktree) -> None:
        assert (worktree.path / "a.txt").read_text() == "a\n"
        (worktree.path / "a.txt").write_text("b\n")
        assert "+b\n" in await repository.changes(worktree)
        commit = await change(repository, worktree)
        assert await repository.read(commit, "a.txt") == "b\n"
        assert "+b\n" in await repository.diff(worktree.base, commit)

    within(root, "HEAD", work)
    assert not (root.parent / "filter-ran").exists()


def test_nothing_is_fetched(tmp_path: Path, root: Path) -> None:
    shell(root, "config", "uploadpack.allowFilter", "true")
    shell(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{root}", "partial")
    shell(tmp_path / "partial", "config", "remote.origin.uploadpack", f"touch {tmp_path}/fetch-ran; git-upload-pack")

    async def main() -> None:
        repository = await Repository.open(tmp_path / "partial")
        with pytest.raises(GitFailed):
            await repository.read("HEAD", "code.py")

    asyncio.run(main())
    assert not (tmp_path / "fetch-ran").exists()


def test_a_worktree_goes_whatever_happened_in_it(root: Path) -> None:
    async def spoil(_: Repository, worktree: Worktree) -> None:
        deep = worktree.path / "locked" / "deeper"
        deep.mkdir(parents=True)
        (deep / "file").write_text("")
        (worktree.path / "way-out").symlink_to(root)
        deep.chmod(0)
        deep.parent.chmod(0)

    within(root, "HEAD", spoil)
    with pytest.raises(RuntimeError):
        within(root, "HEAD", lambda *_: (_ for _ in ()).throw(RuntimeError()))


def test_a_commit_holds_the_whole_content_and_leaves_the_checkout_alone(root: Path) -> None:
    async def work(repository: Repository, worktree: Worktree) -> str:
        (worktree.path / "made.log").write_text("ignored, but part of the work\n")
        (worktree.path / "sub dir" / "ünï.txt").unlink()
        return await change(repository, worktree)

    commit = within(root, "main", work)
    assert shell(root, "rev-parse", BRANCH) == commit
    assert shell(root, "rev-parse", f"{BRANCH}^") == shell(root, "rev-parse", "main")
    assert shell(root, "-c", "core.quotePath=false", "show", "--format=", "--name-status", BRANCH).split("\n") == [
        "M\tcode.py",
        "A\tmade.log",
        "D\tsub dir/ünï.txt",
    ]
    author = shell(root, "show", "-s", "--format=%an <%ae> %at %ct %B", BRANCH)
    assert author == "Interlock <interlock@localhost> 1760000000 1760000000 Correct x\n\nInterlock-Effect: eff_1"


def test_changes_and_diff_tell_what_was_done(root: Path) -> None:
    async def work(repository: Repository, worktree: Worktree) -> tuple[str, str]:
        commit = await change(repository, worktree)
        return await repository.changes(worktree), await repository.diff("main", commit)

    changes, diff = within(root, "main", work)
    assert changes == diff
    assert "--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-x = 1\n+x = 3\n" in diff


def test_the_same_key_commits_once(root: Path) -> None:
    first = within(root, "main", change)
    again = within(root, "main", lambda repository, worktree: change(repository, worktree, text="x = 4\n"))
    assert again == first
    assert shell(root, "rev-list", "--count", f"main..{BRANCH}") == "1"


def test_a_lock_that_the_same_commit_left_when_it_was_killed_is_taken_away_and_nobody_elses(root: Path) -> None:
    first = within(root, "main", change)
    shell(root, "update-ref", "-d", f"refs/heads/{BRANCH}")
    lock = root / ".git" / "refs" / "heads" / f"{BRANCH}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(f"{'1' * 40}\n")
    with pytest.raises(GitFailed, match="lock"):
        within(root, "main", change)
    lock.write_text(f"{first}\n")
    assert within(root, "main", change) == first
    assert not lock.exists()


def test_a_commit_is_found_by_exactly_its_key(root: Path) -> None:
    async def work(repository: Repository, worktree: Worktree) -> None:
        assert await repository.find_commit(BRANCH, "eff_1") is None
        (worktree.path / "code.py").write_text("x = 5\n")
        message = "Looks like another\n\nInterlock-Effect: eff_2\n  interlock-effect: eff_3"
        commit = await repository.commit(worktree, BRANCH, message, key="eff_12", when=WHEN)
        assert await repository.find_commit(BRANCH, "eff_12") == commit
        for other in ("eff_1", "eff_2", "eff_3", "", ".*"):
            assert await repository.find_commit(BRANCH, other) is None

    within(root, "main", work)


def test_a_branch_grows_from_its_tip_and_from_nowhere_else(root: Path) -> None:
    first = within(root, "main", change)
    with pytest.raises(BranchMoved, match="nothing was committed"):
        within(root, "main", lambda repository, worktree: change(repository, worktree, key="eff_2"))
    second = within(root, BRANCH, lambda repository, worktree: change(repository, worktree, key="eff_2", text="x = 9\n"))
    assert shell(root, "rev-list", BRANCH).split()[:2] == [second, first]


def test_of_commits_at_once_one_wins_and_the_same_effect_wins_twice(root: Path) -> None:
    async def race(keys: list[str]) -> list[str | BaseException]:
        async def one(number: int, key: str) -> str:
            repository = await Repository.open(root)
            async with repository.worktree("main") as worktree:
                return await change(repository, worktree, key, f"x = {number}\n")

        return await asyncio.gather(*(one(number, key) for number, key in enumerate(keys)), return_exceptions=True)

    same = asyncio.run(race(["eff_1"] * 4))
    assert len(set(same)) == 1
    assert same[0] == shell(root, "rev-parse", BRANCH)
    shell(root, "update-ref", "-d", f"refs/heads/{BRANCH}")
    other = asyncio.run(race(["eff_1", "eff_2", "eff_3"]))
    won = [each for each in other if isinstance(each, str)]
    assert won == [shell(root, "rev-parse", BRANCH)]
    assert all(isinstance(each, str | BranchMoved) for each in other)


def test_a_branch_that_somebody_works_on_is_not_moved(root: Path) -> None:
    shell(root, "worktree", "add", "-q", "--no-checkout", "-b", "theirs", str(root.parent / "second"))
    for branch in ("main", "theirs"):
        with pytest.raises(GitFailed, match="checked out"):
            within(root, "main", lambda repository, worktree, branch=branch: change(repository, worktree, branch=branch))


@pytest.mark.parametrize("branch", ["", "-D", "a..b", "HEAD^", "@{-1}", "x y"])
def test_a_name_that_is_no_branch_is_refused(root: Path, branch: str) -> None:
    with pytest.raises(GitFailed):
        within(root, "main", lambda repository, worktree: change(repository, worktree, branch=branch))


def test_git_that_sandboxed_code_left_behind_gives_no_orders(root: Path) -> None:
    async def work(repository: Repository, worktree: Worktree) -> str:
        (worktree.path / ".git").mkdir()
        (worktree.path / ".git" / "config").write_text(f"[core]\n\tfsmonitor = touch '{root.parent}/hook-ran'\n")
        return await change(repository, worktree)

    within(root, "main", work)
    assert shell(root, "show", "--format=", "--name-only", BRANCH) == "code.py"
