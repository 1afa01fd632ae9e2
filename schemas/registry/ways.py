"""Who reads what, and the way from a message that was written to one that its reader knows.

Within a major nothing is converted: the registry has proved that later versions accept what earlier ones did. A major is crossed by
migrations alone, by the fewest; of several such ways the one whose versions are lowest is taken, so that it is the same every time.
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

import semver

from interlock.schemas.specs import ContractRef, MigrationSpec


@lru_cache(maxsize=4096)
def fits(reader: ContractRef, name: str, version: str) -> bool:
    """Whether who reads `reader` can read `name version`: same contract, same major, no later than the reader's own version."""
    if reader.name != name:
        return False
    written, read = semver.Version.parse(version), semver.Version.parse(reader.version)
    return written.major == read.major and written <= read


def way(migrations: Iterable[MigrationSpec], written: ContractRef, reader: ContractRef) -> tuple[MigrationSpec, ...] | None:
    """The migrations that make `written` one that `reader` reads: none of them where it does already, `None` where there is no way."""
    if written.name != reader.name:
        return None
    known = sorted((one for one in migrations if one.source.name == written.name), key=_order)
    found: dict[ContractRef, tuple[MigrationSpec, ...]] = {written: ()}
    waiting = deque(found)
    while waiting:
        here = waiting.popleft()
        if fits(reader, here.name, here.version):
            return found[here]
        for one in known:
            if one.target not in found and fits(one.source, here.name, here.version):
                found[one.target] = (*found[here], one)
                waiting.append(one.target)
    return None


def _order(migration: MigrationSpec) -> tuple[semver.Version, semver.Version]:
    return semver.Version.parse(migration.target.version), semver.Version.parse(migration.source.version)
