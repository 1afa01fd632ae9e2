"""Is a new schema compatible with an old one? `check` says yes with a proof, no with a message, or that it does not know and why.

Compatible means: every message that is valid for who writes is valid for who reads. `backward`: the new schema reads what the old one
wrote; `forward`: the old one reads what the new one writes; `full`: both. A yes is proved here and contradicted by nobody else; a no has
a message that one validator accepted and the other refused. The work is bounded, so an answer always comes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadSchema
from interlock.schemas.registry.changes import Change, changes
from interlock.schemas.registry.explain import pointer
from interlock.schemas.registry.proof.document import DIALECTS, dialect
from interlock.schemas.registry.proof.inclusion import Inclusion, Pair, Side
from interlock.schemas.registry.proof.space import Doubt
from interlock.schemas.registry.references import outside
from interlock.schemas.registry.replay import Refusal, validator

Status = Literal["compatible", "incompatible", "unknown"]
Bump = Literal["patch", "minor", "major"]
Mode = Literal["none", "backward", "forward", "full", "backward_transitive", "forward_transitive", "full_transitive"]

_SHOWN = 300

MODES: tuple[Mode, ...] = ("none", "backward", "forward", "full", "backward_transitive", "forward_transitive", "full_transitive")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `check` says."""

    verdict: Status
    mode: Mode
    changes: tuple[Change, ...]
    """What changed since the last version, in words."""
    refusal: Refusal | None
    """Of `incompatible`: the message, who accepts it, who refuses it, where and why."""
    doubts: tuple[Doubt, ...]
    """Of `unknown`: the keywords that stand in the way, why, and what to do."""
    least_bump: Bump
    """patch: each accepts what the other does; minor: what the mode asks for holds; major: neither is proved."""

    @property
    def counterexample(self) -> Any:
        """The message of `refusal`, which may be null; `None` too where there is none."""
        return self.refusal.message if self.refusal else None

    @property
    def reason(self) -> str:
        """One sentence; empty where it is compatible."""
        return sentence(self.refusal, self.doubts)


class _Both(NamedTuple):
    backward: Inclusion
    forward: Inclusion


def check(
    old: Any,
    new: Any,
    mode: Mode = "backward",
    *,
    dialect: int = 2020,
    formats: bool = False,
    producer_closed: bool = False,
) -> Verdict:
    """Compare two schemas. No bus is needed.

    `old` may be a list of versions, oldest first: a transitive mode compares with each of them, any other with the last.
    `dialect` (7, 2019, 2020) is that of a schema without `$schema`. `formats`: `format` is asserted, not an annotation.
    `producer_closed`: who writes sends only properties that its own schema names. Raises `BadSchema` for what cannot be compared at all.
    """
    if mode not in MODES:
        raise BadSchema(which=f"mode {mode!r} and", pointer="/", problem=f"there is no such mode; there are {', '.join(MODES)}")
    history = list(old) if isinstance(old, Sequence) else [old]
    newest = _side(new, "new", dialect, formats)
    sides = [_side(schema, "old", dialect, formats) for schema in history]
    asked = sides if mode.endswith("_transitive") else sides[-1:]
    pairs = [Pair(side, newest, producer_closed) for side in asked]
    found = [_Both(pair.backward(), pair.forward()) for pair in pairs]
    return _verdict(mode, found, changes(history[-1], new))


def _side(schema: Any, which: str, default: int, formats: bool) -> Side:
    draft = dialect(schema, default)
    if draft is None:
        known = ", ".join(DIALECTS)
        raise BadSchema(which=which, pointer="/$schema", problem=f"{schema['$schema']} is none of {known}")
    try:
        encoded = encode(schema)
    except TypeError as error:
        raise BadSchema(which=which, pointer="/", problem=str(error)) from None
    if ref := outside(schema) if b'ef":' in encoded else "":
        raise BadSchema(which=which, pointer="/", problem=f"it refers to {ref}, which lies outside of it, and nothing is ever fetched")
    try:
        compiled = validator(schema, draft, formats)
    except ValueError as error:
        path = getattr(error, "instance_path", ())
        raise BadSchema(which=which, pointer=pointer(path), problem=str(getattr(error, "message", error))[:300]) from None
    return Side(which, schema, encoded, draft, compiled, formats)


def _verdict(mode: Mode, found: list[_Both], changed: tuple[Change, ...]) -> Verdict:
    asked = list(_asked(mode, found))
    refusal = next((one.refusal for one in asked if one.refusal), None)
    doubts = tuple(dict.fromkeys(doubt for one in asked for doubt in one.doubts))
    status: Status = "incompatible" if refusal else "unknown" if doubts else "compatible"
    every = all(one.proved() for both in found for one in both)
    bump: Bump = "patch" if every else "minor" if status == "compatible" and mode != "none" else "major"
    return Verdict(status, mode, changed, refusal, () if refusal else doubts, bump)


def _asked(mode: Mode, found: list[_Both]) -> Iterator[Inclusion]:
    for both in found:
        if mode.startswith(("backward", "full")):
            yield both.backward
        if mode.startswith(("forward", "full")):
            yield both.forward


def sentence(refusal: Refusal | None, doubts: Sequence[Doubt]) -> str:
    """Why it is not compatible, or not known to be; empty where it is."""
    if refusal:
        shown = encode(refusal.message).decode()
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        where = "" if refusal.pointer == "/" else f" at {refusal.pointer}"
        return f"{shown} is accepted by {refusal.accepted_by} and refused by {refusal.refused_by}{where}: {refusal.problem}"
    if doubts:
        first = doubts[0]
        more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
        return f"it could not be proved: {first.keyword} at {first.pointer}: {first.reason}{more}; {first.remedy}"
    return ""
