"""The git binary, so that the user's checkout is never touched and nobody's configuration or hook runs.

Work happens in a scratch worktree: a temporary directory with an index of its own, which the repository never hears of. There is
no `.git` in it that code in a sandbox could turn into orders for a later git outside, and if this process dies, nothing is left in
the repository and nothing for long in the temp dir. A commit is built from the scratch worktree's content straight onto a branch of
our own, by compare-and-set, and carries the key of its effect as a trailer: asked again with the same key, it is found, not repeated.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from interlock.schemas.errors import BranchMoved, GitFailed, NotARepository
from interlock.tools.scratch import Scratch, remove_abandoned

TRAILER = "Interlock-Effect"
LOCK_SECONDS = 1.0
"""For which git locks a branch at the most; a lock that is older has no owner."""
AUTHOR = ("Interlock", "interlock@localhost")

# What of a repository's own configuration would run something, or write into it, or change the form of what is read here.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "core.autocrlf": "false",
    "core.sparseCheckout": "false",
    "core.splitIndex": "false",
    "core.untrackedCache": "false",
    "log.showSignature": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
}
# Programs that a repository's configuration names for files of its choice; git runs them where it checks out, stages or compares.
_PROGRAMS = {
    "filter": {"smudge": "", "clean": "", "process": "", "required": "false"},
    "diff": {"command": "", "textconv": ""},
    "merge": {"driver": ""},
}
_FULL_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True, slots=True)
class Worktree:
    """Files of commit `base` in a scratch directory; what is at `path` is free to change."""

    path: Path
    base: str
    index: Path


class Repository:
    """A git repository with at least one commit."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir

    @classmethod
    async def open(cls, path: Path) -> Self:
        """The repository that `path` lies in. Raises `NotARepository`, also while it has no commit."""
        if not path.is_dir():
            raise NotARepository(path=str(path))
        try:
            said = await git("rev-parse", "--absolute-git-dir", "HEAD^{commit}", cwd=path)
        except GitFailed as error:
            raise NotARepository(path=str(path)) from error
        git_dir, _, _ = said.decode().rstrip("\n").rpartition("\n")
        return cls(Path(git_dir))

    async def head(self) -> str:
        """The commit that is checked out."""
        return await self.resolve("HEAD")

    async def resolve(self, rev: str) -> str:
        """The full name of a commit. Raises `GitFailed` where `rev` names none."""
        return (await self._git("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}")).decode().strip()

    async def _named(self, rev: str) -> str:
        """A name of the commit that no command takes for anything else: what is a full name already is not looked up first."""
        return rev if _FULL_NAME.fullmatch(rev) else await self.resolve(rev)

    async def files(self, rev: str) -> list[str]:
        """The paths of all files of a commit, sorted."""
        listed = await self._git("ls-tree", "-r", "-z", "--name-only", await self._named(rev))
        return sorted(filter(None, listed.decode(errors="replace").split("\0")))

    async def read(self, rev: str, path: str) -> str:
        """A file's text in a commit; bytes that are not UTF-8 are replaced. Raises `GitFailed` where there is no such file."""
        return (await self._git("cat-file", "blob", f"{await self._named(rev)}:{path}")).decode(errors="replace")

    async def diff(self, old: str, new: str) -> str:
        """The unified diff from one commit to another."""
        commits = (await self.resolve(old), await self.resolve(new))
        return (await self._git("diff", *_DIFF, *commits, "--")).decode(errors="replace")

    async def changes(self, worktree: Worktree) -> str:
        """The unified diff from the worktree's base to its content."""
        await self._stage(worktree)
        return (await self._git("diff", "--cached", *_DIFF, worktree.base, "--", worktree=worktree)).decode(errors="replace")

    @asynccontextmanager
    async def worktree(self, rev: str) -> AsyncIterator[Worktree]:
        """A scratch worktree of a commit, removed at the end."""
        base = await self._named(rev)
        await asyncio.to_thread(remove_abandoned)
        scratch = Scratch.make()
        try:
            worktree = Worktree(scratch.path / "files", base, scratch.path / "index")
            worktree.path.mkdir()
            await self._git("read-tree", base, extra=_index_alone(worktree))
            await self._git("checkout-index", "--all", "--quiet", worktree=worktree)
            yield worktree
        finally:
            await asyncio.to_thread(scratch.remove)

    async def start_of(self, branch: str) -> str:
        """The commit that new work for `branch` begins at: what is checked out, or the branch's tip where that is ahead of it.

        Raises `GitFailed` where each has commits that the other does not have, or somebody has the branch checked out.
        """
        await self._check_free(branch)
        head, tip = await self.head(), await self._tip(branch)
        if tip is None or await self._contains(head, tip):
            return head
        if await self._contains(tip, head):
            return tip
        raise GitFailed(
            command="merge-base",
            problem=f"branch {branch} and what is checked out each have commits that the other does not have",
            remedy=f"Merge {branch} or remove it, or name another branch.",
        )

    async def find_commit(self, branch: str, key: str) -> str | None:
        """The commit on `branch` that the effect `key` has made, if it has."""
        tip = await self._tip(branch)
        if tip is None:
            return None
        pattern = f"--grep={TRAILER}: {key}"
        fields = f"--format=%H%x00%(trailers:key={TRAILER},valueonly,separator=%x00)"
        lines = (await self._git("log", "--fixed-strings", pattern, fields, tip, "--")).decode(errors="replace").splitlines()
        for line in lines:
            commit, *keys = line.split("\0")
            if key in keys:
                return commit
        return None

    async def commit(self, worktree: Worktree, branch: str, message: str, *, key: str, when: int) -> str:
        """Commit the worktree's whole content, ignored files too, onto `branch`, which begins at the worktree's base if it is new.

        `when` is in microseconds since the epoch. The same key commits once: again, it returns the first commit. Raises `BranchMoved`
        where the branch has commits that the worktree's base does not have, `GitFailed` where somebody has it checked out.
        """
        if done := await self.find_commit(branch, key):
            return done
        await self._check_free(branch)
        tip = await self._tip(branch)
        if tip is not None and not await self._contains(worktree.base, tip):
            raise BranchMoved(branch=branch, found=tip, expected=worktree.base)
        commit = await self._commit_object(worktree, _with_trailer(message, key), when)
        move = ("update-ref", "-m", f"interlock: {key}", f"refs/heads/{branch}", commit, tip or "0" * len(commit))
        try:
            await self._git(*move)
        except GitFailed:
            # Somebody was faster: perhaps the same effect, elsewhere.
            if done := await self.find_commit(branch, key):
                return done
            if (found := await self._tip(branch)) != tip:
                raise BranchMoved(branch=branch, found=found, expected=worktree.base) from None
            if not await self._unlock(branch, commit):
                raise
            await self._git(*move)
        return commit

    async def _unlock(self, branch: str, commit: str) -> bool:
        """Remove the branch's lock that an earlier attempt of this very commit left when it was killed; whether there was one.

        Nobody else's lock names this commit, for its message carries the key.
        """
        named = await self._git("rev-parse", "--path-format=absolute", "--git-path", f"refs/heads/{branch}.lock")
        lock = Path(named.decode().rstrip("\n"))
        await asyncio.sleep(LOCK_SECONDS)
        try:
            if lock.read_text().strip() != commit:
                return False
            lock.unlink()
        except FileNotFoundError:
            return True
        return True

    async def _commit_object(self, worktree: Worktree, message: str, when: int) -> str:
        await self._stage(worktree)
        tree = (await self._git("write-tree", extra=_index_alone(worktree))).decode().strip()
        date = f"@{when // 1_000_000} +0000"
        arguments = ("commit-tree", "--no-gpg-sign", tree, "-p", worktree.base, "-F", "-")
        made = await self._git(*arguments, stdin=message.encode(), extra={"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date})
        return made.decode().strip()

    async def _stage(self, worktree: Worktree) -> None:
        await self._git("add", "--all", "--force", "--", ".", worktree=worktree)

    async def _contains(self, commit: str, earlier: str) -> bool:
        """Whether `earlier` is `commit` or one of its ancestors."""
        return not (await self._git("rev-list", "--max-count=1", earlier, f"^{commit}", "--")).strip()

    async def _tip(self, branch: str) -> str | None:
        await self._git("check-ref-format", "--branch", branch)
        listed = (await self._git("for-each-ref", "--format=%(objectname) %(refname)", f"refs/heads/{branch}")).decode()
        for line in listed.splitlines():
            commit, _, name = line.partition(" ")
            if name == f"refs/heads/{branch}":
                return commit
        return None

    async def _check_free(self, branch: str) -> None:
        listed = (await self._git("worktree", "list", "--porcelain")).decode(errors="replace").splitlines()
        if f"branch refs/heads/{branch}" in listed:
            raise GitFailed(
                command="commit",
                problem=f"branch {branch} is checked out in a working tree, which must not change under its owner's hands",
                remedy="Name a branch that nobody has checked out.",
            )

    async def _git(
        self,
        *arguments: str,
        worktree: Worktree | None = None,
        stdin: bytes = b"",
        extra: Mapping[str, str] | None = None,
    ) -> bytes:
        variables = {"GIT_DIR": str(self._git_dir), **(extra or {})}
        if worktree is not None:
            variables |= {"GIT_WORK_TREE": str(worktree.path), "GIT_INDEX_FILE": str(worktree.index)}
            variables |= _configuration(_SETTINGS | await self._without_programs())
        return await git(*arguments, stdin=stdin, variables=variables, cwd=worktree.path if worktree else None)

    async def _without_programs(self) -> dict[str, str]:
        """Settings under which no filter or driver runs that the repository's configuration names. Read anew each time: it may change."""
        listed = await git("config", "--name-only", "--null", "--list", variables={"GIT_DIR": str(self._git_dir)})
        drivers = {key.rpartition(".")[0] for key in listed.decode(errors="surrogateescape").split("\0")}
        return {
            f"{driver}.{setting}": value
            for driver in drivers
            for setting, value in _PROGRAMS.get(driver.partition(".")[0], {}).items()
            if "." in driver
        }


def _index_alone(worktree: Worktree) -> dict[str, str]:
    """For what reads and writes no file's content, so that no program could be run over it."""
    return {"GIT_INDEX_FILE": str(worktree.index)}


def _configuration(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as variables, above those of any file."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for n, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
    return variables


def environment() -> dict[str, str]:
    """A whole environment for git: of nobody's configuration but the repository's own, and that without its hooks."""
    name, email = AUTHOR
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **_configuration(_SETTINGS),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none",  # what a partial clone does not have is not fetched: that runs programs too
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


async def git(*arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Run git; what it printed. Raises `GitFailed` with its own words. Cancelled, it is ended first."""
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() | dict(variables or {}),
            cwd=cwd,
        )
    except FileNotFoundError:
        raise GitFailed(command=arguments[0], problem="there is no git on this machine", remedy="Install git.") from None
    try:
        printed, errors = await process.communicate(stdin)
    except asyncio.CancelledError:
        # Not SIGKILL: on SIGTERM git takes its locks away before it goes.
        if process.returncode is None:
            process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        raise GitFailed(
            command=arguments[0],
            problem=errors.decode(errors="replace").strip() or f"exit status {process.returncode}",
            remedy="Nothing was changed; correct what it names and try again.",
        )
    return printed


def _with_trailer(message: str, key: str) -> str:
    """The message and its trailer, alone at the end; a message cannot pass itself off as another effect's."""
    body = re.sub(rf"(?im)^(\s*){TRAILER}\s*:", r"\1Not-" + TRAILER + ":", message.strip())
    return f"{body}\n\n{TRAILER}: {key}\n"
