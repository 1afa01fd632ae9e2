"""Apply a unified diff that a model wrote to a scratch worktree.

All of it or nothing. Context that is not there is never forgiven (blanks in it are), and nothing outside the worktree is reached: no
absolute path, no `..`, no `.git`, no way through or into a symbolic link. A refusal says which hunk failed and what really stands there.
"""

import difflib
import re
from pathlib import Path
from typing import NamedTuple

from interlock.schemas.errors import GitFailed, PatchFailed
from interlock.tools.diffs import FileDiff, Hunk, failed, parse, render
from interlock.tools.git import git

_AROUND = 4
_SHOWN = 60
# First exactly; then with other amounts of blanks in context lines; then with blanks at line ends that the file does not have.
_FORGIVING = (("--whitespace=nowarn",), ("--whitespace=nowarn", "--ignore-whitespace"), ("--whitespace=fix",))


class Applied(NamedTuple):
    """What a diff changed: the files, and how many lines it added and removed."""

    files: tuple[str, ...]
    added: int
    removed: int


async def apply(worktree: Path, diff: str) -> Applied:
    """Apply `diff` to the files in `worktree`. Raises `PatchFailed`, and then nothing has changed."""
    files = parse(diff)
    text = render(files)
    problem = ""
    for forgiving in _FORGIVING:
        try:
            await _git_apply(worktree, text, *forgiving)
            break
        except GitFailed as error:
            problem = problem or error.facts["problem"]
    else:
        raise _explained(worktree, files, problem)
    hunks = [hunk for each in files for hunk in each.hunks]
    return Applied(
        files=tuple(sorted({each.path for each in files})),
        added=sum(hunk.count("+") for hunk in hunks),
        removed=sum(hunk.count("-") for hunk in hunks),
    )


async def _git_apply(worktree: Path, text: str, *options: str) -> None:
    # Within a repository git would leave out, in silence, what it thinks is outside the directory: here there is none.
    # `--unidiff-zero` lets a hunk that ends without context stand elsewhere than at the file's end; one with none at all was refused.
    await git("apply", "--unidiff-zero", *options, "-", stdin=text.encode(), variables={"GIT_DIR": "/dev/null"}, cwd=worktree)


def _explained(worktree: Path, files: list[FileDiff], problem: str) -> PatchFailed:
    for name, line in re.findall(r"^error: patch failed: (.+):(\d+)$", problem, re.MULTILINE):
        for file in files:
            for number, hunk in enumerate(file.hunks, 1):
                if file.old == name and hunk.old_line == int(line):
                    return _mismatch(worktree / name, name, number, hunk)
    plain = "; ".join(line.removeprefix("error: ") for line in problem.splitlines())
    return failed(plain, "Write the diff again against the files as they are.")


def _mismatch(path: Path, name: str, number: int, hunk: Hunk) -> PatchFailed:
    lines = path.read_text(errors="replace").splitlines()
    begin = max(0, _likeliest(lines, hunk) - 1)
    end = min(len(lines), begin + min(len(hunk.expected), _SHOWN) + _AROUND)
    there = "\n".join(f"{at + 1}: {lines[at]}" for at in range(begin, end)) or "(the file is empty)"
    return failed(
        f"{name}, hunk {number} (line {hunk.old_line}): the lines that it expects are not there",
        f"The file reads there:\n{there}\nWrite the diff again with exactly these lines as context.",
    )


def _likeliest(lines: list[str], hunk: Hunk) -> int:
    """Where the file is most like what the hunk expects; where the hunk says, if nowhere."""
    there, expected = [line.strip() for line in lines], [line.strip() for line in hunk.expected]
    match = difflib.SequenceMatcher(None, there, expected, autojunk=False).find_longest_match()
    return max(0, match.a - match.b) if match.size else min(hunk.old_line, len(lines)) - 1
