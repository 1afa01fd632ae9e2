"""The documents speak of what is there: every path, command and name that they cite exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import interlock

PACKAGE = Path(interlock.__file__).parent
TREE = Path(__file__).resolve().parents[2]
DOCUMENTS = [TREE / "README.md", TREE / "ARCHITECTURE.md", *sorted((TREE / "docs").glob("*.md"))]

PATHS = re.compile(r"`((?:schemas|tools|orchestrator|actors|interlock|tests|examples|benchmarks|docs)/[\w./]*)`")
COMMANDS = re.compile(r"`(?:\.venv/bin/)?interlock ([a-z]+(?: [a-z]+)?)")


def _home(path: str) -> Path:
    """Where a path of the tree is: rooms are subpackages, in the checkout and once installed alike."""
    room = path.split("/")[0]
    if room == "interlock":
        return PACKAGE.parent / path
    return (PACKAGE if room in ("schemas", "tools", "orchestrator", "actors") else TREE) / path


def _said(document: Path) -> str:
    """What the document says: an HTML comment is not said."""
    return re.sub(r"<!--.*?-->", "", document.read_text(), flags=re.DOTALL)


def _cited(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        yield from ((document.name, match) for match in pattern.findall(_said(document)))


def test_every_path_exists() -> None:
    cited = list(_cited(PATHS))
    assert len(cited) > 30
    assert [(document, path) for document, path in cited if not _home(path).exists()] == []


@pytest.fixture
def cli() -> click.Group:
    from interlock.cli import main

    return main


def _is_command(group: click.Command | None, words: list[str]) -> bool:
    for word in words:
        if not isinstance(group, click.Group):
            break
        group = group.commands.get(word)
    return group is not None


def test_every_command_exists(cli: click.Group) -> None:
    assert [(document, words) for document, words in _cited(COMMANDS) if not _is_command(cli, words.split())] == []


def test_every_command_is_in_the_readme(cli: click.Group) -> None:
    said = {words.split()[0] for document, words in _cited(COMMANDS) if document == "README.md"}
    assert said == set(cli.commands)


def test_the_example_can_be_declared() -> None:
    """All of it but the part that runs a model."""
    example = re.search(r"```python\n(.*?)```", _said(TREE / "README.md"), flags=re.DOTALL)
    assert example is not None, "the README shows no example"
    declarations, _, _ = example[1].partition("\nwith ")
    exec(compile(declarations, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
