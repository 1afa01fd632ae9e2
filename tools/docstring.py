"""Docstrings as the description of a tool: the first paragraph, and what is said about each parameter.

Understood are Google's `Args:`, numpy's underlined `Parameters` and reStructuredText's `:param name:`.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

_GOOGLE = re.compile(r"(Args|Arguments|Parameters):\s*$")
_SECTION = re.compile(r"[A-Z][A-Za-z ]*:\s*$")
_GOOGLE_ITEM = re.compile(r"\s+(?:[-*] )?\*{0,2}(\w+)(?: ?\([^)]*\))?:\s*(.*)$")
_NUMPY_ITEM = re.compile(r"\*{0,2}(\w+)(?:\s*:.*)?$")
_RST_ITEM = re.compile(r"\s*:param(?: [^:]*?)? ?\*{0,2}(\w+):\s*(.*)$")


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph as one line; empty where there is none."""
    paragraph = (inspect.getdoc(function) or "").strip().split("\n\n", 1)[0]
    lines = paragraph.splitlines()
    end = next((number for number, line in enumerate(lines) if _GOOGLE.match(line) or _RST_ITEM.match(line)), len(lines))
    return " ".join(" ".join(lines[:end]).split())


def parameters(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says about each parameter it names."""
    lines = (inspect.getdoc(function) or "").splitlines()
    found = _of_section(lines, _google_section(lines), _GOOGLE_ITEM) or _of_section(lines, _numpy_section(lines), _NUMPY_ITEM)
    found = found or _of_section(lines, range(len(lines)), _RST_ITEM)
    return {name: " ".join(words.split()) for name, words in found.items() if words.strip()}


def _google_section(lines: list[str]) -> range:
    start = next((number + 1 for number, line in enumerate(lines) if _GOOGLE.match(line)), len(lines))
    end = next((number for number in range(start, len(lines)) if _SECTION.match(lines[number])), len(lines))
    return range(start, end)


def _numpy_section(lines: list[str]) -> range:
    def underlined(number: int) -> bool:
        return number + 1 < len(lines) and bool(lines[number].strip()) and re.fullmatch(r"-{3,}\s*", lines[number + 1]) is not None

    start = next((number + 2 for number in range(len(lines)) if lines[number].strip() == "Parameters" and underlined(number)), len(lines))
    return range(start, next((number for number in range(start, len(lines)) if underlined(number)), len(lines)))


def _of_section(lines: list[str], section: range, item: re.Pattern[str]) -> dict[str, str]:
    """The items of a section; lines that are indented deeper than an item go on with it, an empty line ends it."""
    found: dict[str, str] = {}
    current, indent = "", 0
    for line in (lines[number] for number in section):
        depth = len(line) - len(line.lstrip())
        if not line.strip():
            current = ""
        elif current and depth > indent:
            found[current] += f" {line.strip()}"
        elif match := item.match(line):
            current, indent = match[1], depth
            found[current] = match[2] if item.groups > 1 else ""
        else:
            current = ""
    return found
