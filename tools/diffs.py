"""Read a unified diff that a model wrote, and write it again as git reads it.

Pure. Forgiven is what models get wrong without meaning anything else: counts in hunk headers, a fence or prose around the diff, line
ends, missing `a/` and `b/`, invented blob names, empty context lines without their blank. What is left after that is either a diff
of ordinary files within one directory or refused, in words from which the model can do better.
"""

import re
from dataclasses import dataclass, field

from interlock.schemas.errors import PatchFailed

NOWHERE = "/dev/null"

_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)$")
_GIT_HEADER = re.compile(r"^diff --git a/(.+) b/(.+)$")
_MODE = re.compile(r"^(?:(?:new|deleted) file mode|(?:old|new) mode|index \S+) (\d+)$")
_KEPT = ("new file mode ", "deleted file mode ", "old mode ", "new mode ", "similarity index ", "rename ", "copy ")
_SHAPE = "Begin each file with '--- a/PATH' and '+++ b/PATH', each change with '@@ -LINE,COUNT +LINE,COUNT @@'."


@dataclass(slots=True)
class Hunk:
    """One change: where its header says that it begins, and its lines with their sign."""

    old_line: int
    new_line: int
    rest: str
    lines: list[str] = field(default_factory=list)

    @property
    def expected(self) -> list[str]:
        return [line[1:] for line in self.lines if line[0] in " -"]

    def count(self, signs: str) -> int:
        return sum(line[0] in signs for line in self.lines)


@dataclass(slots=True)
class FileDiff:
    """The changes of one file; `old` or `new` is `/dev/null` where it appears or goes."""

    old: str
    new: str
    headers: list[str] = field(default_factory=list)
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.old if self.new == NOWHERE else self.new

    def render(self) -> list[str]:
        old = self.new if self.old == NOWHERE else self.old
        new = self.old if self.new == NOWHERE else self.new
        headers = list(self.headers)
        if self.old == NOWHERE and not any(line.startswith("new file") for line in headers):
            headers.append("new file mode 100644")
        if self.new == NOWHERE and not any(line.startswith("deleted file") for line in headers):
            headers.append("deleted file mode 100644")
        lines = [f"diff --git a/{old} b/{new}", *headers]
        if self.hunks:
            lines += [f"--- {_prefixed('a', self.old)}", f"+++ {_prefixed('b', self.new)}"]
        for hunk in self.hunks:
            lines += [f"@@ -{hunk.old_line},{hunk.count(' -')} +{hunk.new_line},{hunk.count(' +')} @@{hunk.rest}", *hunk.lines]
        return lines


def failed(problem: str, remedy: str) -> PatchFailed:
    return PatchFailed(problem=problem.rstrip("."), remedy=remedy)


def render(files: list[FileDiff]) -> str:
    return "".join(f"{line}\n" for each in files for line in each.render())


def parse(diff: str) -> list[FileDiff]:
    """The files that a diff changes. Raises `PatchFailed`."""
    text = diff.replace("\r\n", "\n")
    if fenced := re.search(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        text = fenced[1]
    files = _Reader(text.rstrip("\n").split("\n")).read()
    if not files:
        raise failed("it is not a unified diff" if text.strip() else "it is empty", _SHAPE)
    for each in files:
        _check(each)
    return files


class _Reader:
    """Line by line; a file's header ends a hunk, for no count in a header is believed."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._files: list[FileDiff] = []
        self._hunk: Hunk | None = None

    def read(self) -> list[FileDiff]:
        for at, line in enumerate(self._lines):
            if _GIT_HEADER.match(line) or self._begins_file(at):
                self._close()
                self._begin_file(at, line)
            elif line.startswith("@@"):
                self._begin_hunk(at, line)
            elif self._hunk is not None:
                self._body(at, line)
            elif self._files:
                self._extend_header(at, line)
        self._close()
        return self._files

    def _begins_file(self, at: int) -> bool:
        following = [*self._lines[at + 1 : at + 3], "", ""]
        return self._lines[at].startswith("--- ") and following[0].startswith("+++ ") and following[1][:2] in ("@@", "")

    def _begin_file(self, at: int, line: str) -> None:
        if found := _GIT_HEADER.match(line):
            self._files.append(FileDiff(_path(found[1]), _path(found[2])))
            return
        if not self._files or self._files[-1].hunks:
            self._files.append(FileDiff("", ""))
        current = self._files[-1]
        current.old, current.new = _path(line[4:]), _path(self._lines[at + 1][4:])

    def _extend_header(self, at: int, line: str) -> None:
        if line.startswith(("GIT binary patch", "Binary files ")):
            raise failed(f"line {at + 1} is a binary change", "Change text files only.")
        if (mode := _MODE.match(line)) and mode[1] in ("120000", "160000"):
            raise failed("it makes or changes a symbolic link or a submodule", "Change ordinary files only.")
        if line.startswith(_KEPT):
            self._files[-1].headers.append(line)

    def _begin_hunk(self, at: int, line: str) -> None:
        found = _HUNK.match(line)
        if not found or not self._files:
            raise failed(f"line {at + 1}, {line[:60]!r}, is not a hunk's header within a file", _SHAPE)
        self._close()
        self._hunk = Hunk(int(found[1]), int(found[2]), found[3])
        self._files[-1].hunks.append(self._hunk)

    def _body(self, at: int, line: str) -> None:
        assert self._hunk is not None
        if line[:1] not in ("", " ", "+", "-", "\\"):
            problem = f"line {at + 1}, {line[:60]!r}, is part of a hunk but begins with neither ' ', '+' nor '-'"
            raise failed(problem, "Begin each context line with one blank.")
        self._hunk.lines.append(line or " ")

    def _close(self) -> None:
        """Blank lines between a hunk and what follows are taken for prose, unless nothing else says where the hunk belongs."""
        hunk, self._hunk = self._hunk, None
        while hunk and hunk.lines and hunk.lines[-1] == " " and (hunk.old_line == 0 or len(hunk.expected) > 1):
            hunk.lines.pop()


def _path(named: str) -> str:
    path = named.split("\t")[0].rstrip()
    if path == NOWHERE:
        return path
    return path[2:] if path.startswith(("a/", "b/")) else path


def _prefixed(side: str, path: str) -> str:
    return path if path == NOWHERE else f"{side}/{path}"


def _check(file: FileDiff) -> None:
    renamed = [line.split(" ", 2)[2] for line in file.headers if line.startswith(("rename ", "copy "))]
    for path in (file.old, file.new, *renamed):
        if path != NOWHERE:
            _check_path(path)
    for number, hunk in enumerate(file.hunks, 1):
        if not hunk.count("+-"):
            raise failed(f"{file.path}, hunk {number}: it changes nothing", "Leave the hunk out, or add what is missing.")
        if not hunk.expected and file.old != NOWHERE and hunk.old_line > 0:
            raise failed(f"{file.path}, hunk {number}: nothing says where it belongs", "Add at least one line of context.")
    if not file.hunks and not file.headers:
        raise failed(f"it changes nothing in {file.path}", _SHAPE)


def _check_path(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower().rstrip(". ") == ".git" for part in parts):
        raise failed(f"{path} lies outside the worktree or in .git", "Name paths from the repository's root, as a/PATH and b/PATH.")
    if re.search(r'[\x00-\x1f"\\]', path):
        raise failed(f"the path {path!r} has a quote, a backslash or a control character", "Use plain paths, without quotes.")
