"""Labels: where data came from and whether it is trusted.

A label only ever loses trust: `join` is a semilattice (commutative, associative, idempotent), so no order of delivery and
no agent can win trust back.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Label:
    """`trusted` is false as soon as one source is not; `sources` names those that are not, sorted."""

    trusted: bool = True
    sources: tuple[str, ...] = ()

    def join(self, other: "Label") -> "Label":
        if other is TRUSTED or self == other or other == TRUSTED:
            return self
        return Label(self.trusted and other.trusted, tuple(sorted({*self.sources, *other.sources})))

    def encode(self) -> str:
        """The CloudEvents attribute: `trusted`, or `untrusted:SOURCE,SOURCE`."""
        return "trusted" if self.trusted else "untrusted:" + ",".join(self.sources)


TRUSTED = Label()


def untrusted(*sources: str) -> Label:
    return Label(False, tuple(sorted(set(sources))))


def decode_label(text: str) -> Label:
    """The label that `encode` wrote; anything else is untrusted, for in doubt nothing is trusted."""
    if text == "trusted":
        return TRUSTED
    _, _, sources = text.partition(":")
    return untrusted(*filter(None, sources.split(",")))
