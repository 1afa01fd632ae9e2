"""Diffs as models write them: what is forgiven, what is refused, and that a refusal changes nothing."""

import asyncio
import difflib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from interlock.schemas.errors import PatchFailed
from interlock.tools.diffs import parse, render
from interlock.tools.patch import Applied, apply

POEM = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n"
GOOD = """\
--- a/poem.txt
+++ b/poem.txt
@@ -2,4 +2,4 @@
 two
-three
+drei
 four
 five
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "poem.txt").write_text(POEM)
    (root / "deep" / "other.txt").write_text("a\nb\nc\n")
    return root


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def applied(tree: Path, diff: str) -> Applied:
    return asyncio.run(apply(tree, diff))


def refused(tree: Path, diff: str) -> str:
    before = content(tree)
    with pytest.raises(PatchFailed) as caught:
        applied(tree, diff)
    assert content(tree) == before
    return str(caught.value)


def test_a_diff_is_applied(tree: Path) -> None:
    assert applied(tree, GOOD) == Applied(("poem.txt",), 1, 1)
    assert (tree / "poem.txt").read_text() == POEM.replace("three", "drei")


@pytest.mark.parametrize(
    "diff",
    [
        GOOD.replace("@@ -2,4 +2,4 @@", "@@ -2,99 +2,1 @@ def somewhere():"),
        GOOD.replace("@@ -2,4 +2,4 @@", "@@ -7,4 +7,4 @@"),
        f"Here is the fix:\n\n```diff\n{GOOD}```\nIt translates the number.\n",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("a/poem", "poem").replace("b/poem", "poem"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace(" two", " two  "),
        GOOD.replace(" four\n five\n", ""),
        "diff --git a/poem.txt b/poem.txt\nindex 1234567..89abcde 100644\n" + GOOD,
    ],
    ids=["counts", "line", "fence", "crlf", "no prefix", "no last newline", "blank end", "blanks", "no context below", "blob names"],
)
def test_what_means_nothing_else_is_forgiven(tree: Path, diff: str) -> None:
    applied(tree, diff)
    assert (tree / "poem.txt").read_text() == POEM.replace("three", "drei")


def test_context_may_be_indented_otherwise(tree: Path) -> None:
    (tree / "code.py").write_text("def f():\n    if x:\n        y = 1\n    return y\n")
    applied(tree, "--- a/code.py\n+++ b/code.py\n@@ -2,3 +2,3 @@\n   if x:\n-      y = 1\n+        y = 2\n   return y\n")
    assert (tree / "code.py").read_text() == "def f():\n    if x:\n        y = 2\n    return y\n"


def test_several_files_without_git_headers_are_made_changed_renamed_and_removed(tree: Path) -> None:
    diff = (
        GOOD
        + "--- /dev/null\n+++ b/new dir/made.txt\n@@ -0,0 +1,2 @@\n+hello\n+\n\n"
        + "--- a/deep/other.txt\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-a\n-b\n-c\n"
    )
    assert applied(tree, diff) == Applied(("deep/other.txt", "new dir/made.txt", "poem.txt"), 3, 4)
    assert content(tree) == {"poem.txt": POEM.replace("three", "drei"), "new dir/made.txt": "hello\n\n"}
    rename = "diff --git a/poem.txt b/deep/verse.txt\nsimilarity index 100%\nrename from poem.txt\nrename to deep/verse.txt\n"
    assert applied(tree, rename).files == ("deep/verse.txt",)
    assert sorted(content(tree)) == ["deep/verse.txt", "new dir/made.txt"]


def test_a_removed_line_that_looks_like_a_header_is_a_line(tree: Path) -> None:
    (tree / "query.sql").write_text("-- /etc/passwd\nselect 1;\n")
    applied(tree, "--- a/query.sql\n+++ b/query.sql\n@@ -1,2 +1,2 @@\n--- /etc/passwd\n+-- fine\n select 1;\n")
    assert (tree / "query.sql").read_text() == "-- fine\nselect 1;\n"


def test_context_that_is_not_there_is_told_with_what_is(tree: Path) -> None:
    words = refused(tree, GOOD.replace("-three", "-tree"))
    assert "poem.txt, hunk 1 (line 2)" in words
    assert "2: two\n3: three\n4: four" in words
    second = GOOD + "@@ -6,2 +6,2 @@\n six\n-sieben\n+7\n"
    assert "poem.txt, hunk 2 (line 6)" in refused(tree, second)


def test_one_bad_file_spoils_all(tree: Path) -> None:
    assert "missing.txt: No such file" in refused(tree, GOOD + GOOD.replace("poem", "missing"))
    assert "already exists" in refused(tree, GOOD + "--- /dev/null\n+++ b/deep/other.txt\n@@ -0,0 +1 @@\n+x\n")


@pytest.mark.parametrize(
    ("diff", "words"),
    [
        ("", "it is empty"),
        ("I would change the third line.", "not a unified diff"),
        ("```diff\n```", "it is empty"),
        (GOOD.replace("@@ -2,4 +2,4 @@", "@@ the third line @@"), "not a hunk's header"),
        (GOOD.replace(" two", "two"), "begins with neither"),
        (GOOD.replace("-three\n+drei\n", " three\n"), "changes nothing"),
        ("--- a/poem.txt\n+++ b/poem.txt\n@@ -3,0 +3,1 @@\n+lost\n", "nothing says where it belongs"),
        ("--- a/poem.txt\n+++ b/poem.txt\n", "changes nothing"),
        ("diff --git a/x.png b/x.png\nGIT binary patch\nliteral 0\n", "binary"),
        ('--- "a/po\\303.txt"\n+++ "b/po\\303.txt"\n@@ -1 +1 @@\n-x\n+y\n', "plain paths"),
    ],
)
def test_what_is_no_diff_is_told_how_to_be_one(tree: Path, diff: str, words: str) -> None:
    assert words in refused(tree, diff)


OUTSIDE = ["/etc/motd", "../beside.txt", "deep/../../beside.txt", ".git/hooks/pre-commit", "deep/.GIT/config", "./poem.txt", "deep//x"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leaves_the_worktree(tree: Path, path: str) -> None:
    (tree.parent / "beside.txt").write_text("mine\n")
    new = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+evil\n"
    assert "outside the worktree or in .git" in refused(tree, new)
    assert "outside the worktree or in .git" in refused(tree, new.replace(f"b/{path}", path))
    rename = f"diff --git a/poem.txt b/poem.txt\nsimilarity index 100%\nrename from poem.txt\nrename to {path}\n"
    assert "outside the worktree or in .git" in refused(tree, rename)
    assert (tree.parent / "beside.txt").read_text() == "mine\n"


@pytest.mark.parametrize("mode", ["new file mode 120000", "index 123..456 120000", "new file mode 160000", "new mode 120000"])
def test_no_link_and_no_submodule_is_made(tree: Path, mode: str) -> None:
    diff = f"diff --git a/way b/way\n{mode}\n--- /dev/null\n+++ b/way\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n"
    assert "symbolic link or a submodule" in refused(tree, diff)


def test_a_link_that_is_there_is_no_way_out(tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "victim.txt").write_text("one\n")
    (tree / "folder").symlink_to(outside)
    (tree / "file.txt").symlink_to(outside / "victim.txt")
    change = "--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-one\n+evil\n"
    refused(tree, change.format("folder/victim.txt"))
    refused(tree, change.format("file.txt"))
    refused(tree, "--- /dev/null\n+++ b/folder/new.txt\n@@ -0,0 +1 @@\n+evil\n")
    assert content(outside) == {"victim.txt": "one\n"}


def test_a_repository_around_the_worktree_makes_no_difference(tree: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tree.parent)], check=True)
    applied(tree, GOOD)
    assert "drei" in (tree / "poem.txt").read_text()


LINES = st.lists(st.sampled_from(["", "a", "b", "c", "    x = 1", "--- a", "+++ b", "@@ -1 +1 @@", "diff", "-- a", "\\"]), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(before=LINES, after=LINES, lie=st.integers(0, 50))
def test_a_true_diff_with_false_counts_turns_one_text_into_the_other(before: list[str], after: list[str], lie: int) -> None:
    assume(before != after and "" not in (*before[-1:], *after[-1:]) and before and after)
    lines = list(difflib.unified_diff(before, after, "a/t", "b/t", lineterm=""))
    hunks = [f"{line.rsplit(',', 1)[0].split(' +')[0]} +1,{lie} @@" if line.startswith("@@ -") and "," in line else line for line in lines]
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "t").write_text("".join(f"{line}\n" for line in before))
        applied(folder, "\n".join(hunks) + "\n")
        assert (folder / "t").read_text() == "".join(f"{line}\n" for line in after)
    finally:
        shutil.rmtree(folder)


@given(st.text(alphabet=st.sampled_from('ab/ +-@\n\\"1,.0'), max_size=80), st.booleans())
def test_reading_ends_in_a_diff_or_in_words(noise: str, within: bool) -> None:
    try:
        files = parse(GOOD + noise if within else noise)
    except PatchFailed:
        return
    assert render(parse(render(files))) == render(files)
