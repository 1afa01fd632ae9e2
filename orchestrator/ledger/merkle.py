"""The Merkle tree of RFC 9162, section 2.1, over a ledger's entries: why one hash vouches for all of them, and how to prove so in a few.

A leaf's data is the chain hash of an entry, so a root commits to every byte that is stored. `Tree` grows: it keeps only the roots of the
complete subtrees (a compact range), about log2(n) hashes, and an entry costs two hashes on average. The proofs need all leaves; whoever
checks one needs a root, and no ledger.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()
"""The root over nothing."""


def leaf(data: bytes) -> bytes:
    """The hash of a leaf. Leaves and nodes differ in their first byte, so neither can be passed off as the other."""
    return sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that leaves are only added to. `peaks`: the roots of its complete subtrees, the largest first."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        if len(levels) != len(peaks):
            raise ValueError(f"a tree of {size} leaves has {len(levels)} complete subtrees, not {len(peaks)}")
        self.size = size
        self._peaks = dict(zip(levels, reversed(peaks), strict=True))

    @property
    def peaks(self) -> list[bytes]:
        return [self._peaks[level] for level in sorted(self._peaks, reverse=True)]

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves, given by their hashes; level by level, for many at once cost less each."""
        new, level = list(leaves), 0
        self.size += len(new)
        while new:
            if (waiting := self._peaks.pop(level, None)) is not None:
                new.insert(0, waiting)
            if len(new) % 2:
                self._peaks[level] = new.pop()
            # Written out: half of what an entry costs is here, beside a busy event loop.
            new = [sha256(b"\x01" + left + right).digest() for left, right in zip(new[::2], new[1::2], strict=True)]
            level += 1

    def root(self) -> bytes:
        found = b""
        for level in sorted(self._peaks):
            found = _node(self._peaks[level], found) if found else self._peaks[level]
        return found or EMPTY


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves, given by their hashes."""
    tree = Tree()
    tree.extend(leaves)
    return tree.root()


# --- proofs: RFC 9162, 2.1.3.1 and 2.1.4.1 -------------------------------------------------------------------------------------------


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The proof that leaf `index` (from 0) is in the tree over `leaves`."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} among {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion(leaves[:split], index), root(leaves[split:])]
    return [*inclusion(leaves[split:], index - split), root(leaves[:split])]


def consistency(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """The proof that the tree over the first `first` of `leaves` is the beginning of the tree over all of them."""
    if not 0 < first <= len(leaves):
        raise ValueError(f"there is no beginning of {first} leaves among {len(leaves)}")
    return _beginning(leaves, first, whole=True)


def _beginning(leaves: Sequence[bytes], first: int, whole: bool) -> list[bytes]:
    """`whole`: this subtree is the first tree itself, whose root the one who checks has already."""
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    split = _split(len(leaves))
    if first <= split:
        return [*_beginning(leaves[:split], first, whole), root(leaves[split:])]
    return [*_beginning(leaves[split:], first - split, whole=False), root(leaves[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


# --- checking them: 2.1.3.2 and 2.1.4.2 ----------------------------------------------------------------------------------------------


def includes(root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the leaf with this hash is number `index` (from 0) of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = _node(one, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = _node(found, one)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def continues(first_root: bytes, first: int, second_root: bytes, second: int, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of size `second` begins with that of size `first`: nothing was changed, only added."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = _node(one, before), _node(one, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = _node(after, one)
        node, last = node >> 1, last >> 1
    return last == 0 and before == first_root and after == second_root
