"""The Merkle tree: the vectors of the RFC's reference implementation, and the laws that every tree and every proof keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.orchestrator.ledger.merkle import EMPTY, Tree, consistency, continues, includes, inclusion, leaf, root

LEAVES = [
    leaf(bytes.fromhex(data)) for data in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", bytes(range(96, 112)).hex())
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N01 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N47 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
N67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
L1, L4 = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
)
L6, N45 = (
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
)

trees = st.lists(st.binary(max_size=40).map(leaf), min_size=1, max_size=70)


def test_the_vectors_of_the_reference_implementation() -> None:
    assert Tree().root() == EMPTY == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert [root(LEAVES[:size]).hex() for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [(0, 1, []), (0, 8, [L1, N01, N47]), (5, 8, [L4, N67, ROOTS[3]]), (2, 3, [ROOTS[1]]), (1, 5, [ROOTS[0], N01, L4])],
)
def test_the_inclusion_proofs_of_the_reference_implementation(index: int, size: int, proof: list[str]) -> None:
    made = inclusion(LEAVES[:size], index)
    assert [one.hex() for one in made] == proof
    assert includes(bytes.fromhex(ROOTS[size - 1]), size, index, LEAVES[index], made)


@pytest.mark.parametrize(
    ("first", "second", "proof"),
    [(1, 1, []), (1, 8, [L1, N01, N47]), (6, 8, [N45, N67, ROOTS[3]]), (2, 5, [N01, L4]), (6, 7, [N45, L6, ROOTS[3]])],
)
def test_the_consistency_proofs_of_the_reference_implementation(first: int, second: int, proof: list[str]) -> None:
    made = consistency(LEAVES[:second], first)
    assert [one.hex() for one in made] == proof
    assert continues(bytes.fromhex(ROOTS[first - 1]), first, bytes.fromhex(ROOTS[second - 1]), second, made)


def _by_the_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it stands there."""
    from hashlib import sha256

    if len(leaves) == 1:
        return leaves[0]
    split = max(1 << power for power in range(8) if 1 << power < len(leaves))
    return sha256(b"\x01" + _by_the_definition(leaves[:split]) + _by_the_definition(leaves[split:])).digest()


@given(trees, st.data())
def test_a_tree_grows_to_the_same_root_in_any_pieces_and_from_any_stop(leaves: list[bytes], data: st.DataObject) -> None:
    tree, at = Tree(), 0
    while at < len(leaves):
        more = data.draw(st.integers(1, len(leaves) - at))
        tree.extend(leaves[at : at + more])
        at += more
        tree = Tree(tree.size, tree.peaks)
        assert (tree.size, tree.root()) == (at, _by_the_definition(leaves[:at]))


@given(trees, st.data())
def test_an_inclusion_proof_holds_for_its_leaf_place_size_and_root_alone(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof, top = inclusion(leaves, index), root(leaves)
    assert includes(top, size, index, leaves[index], proof)
    other = leaf(b"x" * 41)
    assert not includes(top, size, index, other, proof)
    assert not includes(other, size, index, leaves[index], proof)
    assert not includes(top, size, index, leaves[index], [*proof, other])
    for at in range(len(proof)):
        assert not includes(top, size, index, leaves[index], proof[:at] + proof[at + 1 :])
        assert not includes(top, size, index, leaves[index], [*proof[:at], other, *proof[at + 1 :]])
    for elsewhere in range(-1, size + 1):
        assert includes(top, size, elsewhere, leaves[index], proof) == (elsewhere == index or _same_way(leaves, index, elsewhere))


def _same_way(leaves: list[bytes], index: int, elsewhere: int) -> bool:
    """Equal leaves may have equal proofs."""
    return 0 <= elsewhere < len(leaves) and leaves[elsewhere] == leaves[index] and inclusion(leaves, elsewhere) == inclusion(leaves, index)


@given(trees, st.data())
def test_a_consistency_proof_holds_for_its_sizes_and_roots_alone(leaves: list[bytes], data: st.DataObject) -> None:
    second = len(leaves)
    first = data.draw(st.integers(1, second))
    proof, before, after = consistency(leaves, first), root(leaves[:first]), root(leaves)
    other = leaf(b"x" * 41)
    assert continues(before, first, after, second, proof)
    assert not continues(other, first, after, second, proof)
    assert not continues(before, first, other, second, proof)
    assert not continues(before, first, after, second, [*proof, other])
    assert not continues(before, second + 1, after, second, proof)
    assert not continues(before, 0, after, second, proof)
    for at in range(len(proof)):
        assert not continues(before, first, after, second, proof[:at] + proof[at + 1 :])
        assert not continues(before, first, after, second, [*proof[:at], other, *proof[at + 1 :]])


@given(trees, st.data())
def test_a_rewritten_beginning_continues_nothing(leaves: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(leaves)))
    at = data.draw(st.integers(0, first - 1))
    rewritten = [*leaves[:at], leaf(b"x" * 41), *leaves[at + 1 :]]
    proof = consistency(rewritten, first)
    assert continues(root(rewritten[:first]), first, root(rewritten), len(leaves), proof)
    assert not continues(root(leaves[:first]), first, root(rewritten), len(leaves), proof)


def test_what_is_not_there_has_no_proof_and_a_range_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no leaf 8 among 8"):
        inclusion(LEAVES, 8)
    with pytest.raises(ValueError, match="no beginning of 0 leaves among 8"):
        consistency(LEAVES, 0)
    with pytest.raises(ValueError, match="a tree of 7 leaves has 3 complete subtrees, not 2"):
        Tree(7, LEAVES[:2])
    assert not includes(root(LEAVES), 8, 8, LEAVES[7], inclusion(LEAVES, 7))
