"""The repository as the team sees it: files of a commit with the accepted diffs applied, in scratch worktrees only.

Which repository, which commit and which diffs is said by the message that an agent answers, never by a model. What is read is bounded;
a path that leads out of the repository, and a link, is not read.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from interlock.schemas.errors import ToolRefused
from interlock.schemas.message import Message
from interlock.tools.context import ToolContext
from interlock.tools.git import Repository, Worktree
from interlock.tools.nearest import nearest
from interlock.tools.patch import apply
from interlock.tools.tool import tool

PATHS_AT_MOST = 1_000
LINES_AT_MOST = 800
CHARS_AT_MOST = 40_000
BYTES_AT_MOST = 4_000_000


class Files(Message):
    """`paths`, sorted; `more` is how many there are beyond these."""

    paths: list[str]
    more: int


class Excerpt(Message):
    """Lines `first` to `last`, of `lines` in all. Each line of `text` ends as in the file."""

    path: str
    first: int
    last: int
    lines: int
    text: str


@asynccontextmanager
async def checkout(repository: str, base: str, diffs: Sequence[str]) -> AsyncIterator[tuple[Repository, Worktree]]:
    """A scratch worktree of `base` with `diffs` applied. Raises `PatchFailed` where one does not apply."""
    found = await Repository.open(Path(repository))
    async with found.worktree(base) as worktree:
        for diff in diffs:
            await apply(worktree.path, diff)
        yield found, worktree


@tool(effect="read", timeout=120)
async def list_files(folder: str, ctx: ToolContext) -> Files:
    """List the repository's files below a folder.

    Args:
        folder: A path from the repository's root, such as src; empty for all files.
    """
    inside = folder.strip().strip("/").removeprefix("./").removeprefix(".")
    paths = [path for path in await _paths(ctx) if not inside or path.startswith(f"{inside}/")]
    return Files(paths=paths[:PATHS_AT_MOST], more=max(0, len(paths) - PATHS_AT_MOST))


@tool(effect="read", timeout=120)
async def read_file(path: str, ctx: ToolContext, first_line: Annotated[int, Field(ge=1)] = 1) -> Excerpt:
    """Read a text file of the repository, up to 800 lines at a time.

    Args:
        path: A path from the repository's root, as list_files names it.
        first_line: The line to begin with; the first is 1.
    """
    text = await _text(path.strip().removeprefix("./"), ctx)
    lines = text.splitlines(keepends=True)
    shown: list[str] = []
    room = CHARS_AT_MOST
    for line in lines[first_line - 1 : first_line - 1 + LINES_AT_MOST]:
        room -= len(line)
        if room < 0 and shown:
            break
        shown.append(line[:CHARS_AT_MOST])
    return Excerpt(path=path, first=first_line, last=first_line - 1 + len(shown), lines=len(lines), text="".join(shown))


async def _paths(ctx: ToolContext) -> list[str]:
    accepted = ctx.message.get("accepted", [])
    if not accepted:
        return await (await Repository.open(Path(ctx.message["repository"]))).files(ctx.message["base"])
    async with checkout(ctx.message["repository"], ctx.message["base"], accepted) as (_, worktree):
        return _below(worktree.path)


async def _text(path: str, ctx: ToolContext) -> str:
    accepted = ctx.message.get("accepted", [])
    if not accepted:
        repository, base = await Repository.open(Path(ctx.message["repository"])), ctx.message["base"]
        _check_known(path, await repository.files(base))
        return _checked(path, await repository.read(base, path))
    async with checkout(ctx.message["repository"], ctx.message["base"], accepted) as (_, worktree):
        _check_known(path, _below(worktree.path))
        return _checked(path, (worktree.path / path).read_text(errors="replace"))


def _below(root: Path) -> list[str]:
    """The files of a worktree. A link is none: it could lead anywhere."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and _is_inside(path, root))


def _is_inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() and path.resolve().is_relative_to(root)


def _check_known(path: str, known: list[str]) -> None:
    if path in known:
        return
    remedy = f"Did you mean {nearest(path, known)}?" if known else "The repository has no files."
    raise ToolRefused(tool="read_file", problem=f"the repository has no file {path!r}", remedy=remedy)


def _checked(path: str, text: str) -> str:
    if "\0" in text or len(text) > BYTES_AT_MOST:
        raise ToolRefused(tool="read_file", problem=f"{path} is no text, or a very large one", remedy="Go on without it.")
    return text
