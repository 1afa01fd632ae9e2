"""Semver for contracts: what follows what, and which number comes next.

Versions order totally here: build metadata, which semver ignores when it orders, is no part of a contract's version.
"""

from collections.abc import Iterable

import semver

from interlock.schemas.errors import BadDeclaration


def parse(version: str) -> semver.Version:
    """The parts of a version; `BadDeclaration` where it is none that a contract can have."""
    try:
        parsed = semver.Version.parse(version)
    except (ValueError, TypeError):
        raise BadDeclaration(what=f"version {version!r}", problem="it is not semver", remedy="Use three numbers, as in 1.0.0.") from None
    if parsed.build:
        remedy = f"Register it as {parsed.replace(build=None)}."
        raise BadDeclaration(what=f"version {version!r}", problem="build metadata does not order versions", remedy=remedy)
    return parsed


def in_order(versions: Iterable[str]) -> list[str]:
    """From the lowest to the highest."""
    return sorted(versions, key=parse)


def same_major(one: str, other: str) -> bool:
    return parse(one).major == parse(other).major


def next_patch(version: str, taken: Iterable[str]) -> str:
    """The first patch that is higher than everything taken within `version`'s major."""
    rivals = [parse(other) for other in taken if same_major(version, other)]
    return str(max([parse(version), *rivals]).finalize_version().bump_patch())


def is_patch(older: str, newer: str) -> bool:
    """It says that it differs from the older one in nothing that anybody could notice."""
    one, other = parse(older), parse(newer)
    return (one.major, one.minor) == (other.major, other.minor) and not (one.prerelease or other.prerelease)


def next_minor(version: str, taken: Iterable[str]) -> str:
    """The first minor that is higher than everything taken within `version`'s major."""
    rivals = [parse(other) for other in taken if same_major(version, other)]
    return str(max([parse(version), *rivals]).finalize_version().bump_minor())


def next_major(taken: Iterable[str]) -> str:
    """The first version of the first major above everything taken."""
    return f"{max(parse(version).major for version in taken) + 1}.0.0"
