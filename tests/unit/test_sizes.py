"""Sizes as people write them."""

import pytest

from interlock.actors.memory import node_memory, share, used_by
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.sizes import bytes_in, told_size


@pytest.mark.parametrize(
    ("text", "count"), [("500MB", 500_000_000), ("1.5 GB", 1_500_000_000), ("1GiB", 2**30), (100_000_000, 100_000_000), (0, 0)]
)
def test_a_size_is_read(text: str | int, count: int) -> None:
    assert bytes_in("agent a", text) == count


@pytest.mark.parametrize("text", ["much", "5", "1MB", 5, -1, "500 M"])
def test_what_is_none_is_refused(text: str | int) -> None:
    with pytest.raises(BadDeclaration, match="agent a: memory="):
        bytes_in("agent a", text)


def test_a_size_is_told() -> None:
    assert (told_size(1_234_000_000), told_size(64_400_000)) == ("1.2 GB", "64 MB")


def test_a_process_sees_its_node_and_itself() -> None:
    import os

    assert 0 < used_by(os.getpid()) < node_memory()
    assert share() * 4 <= node_memory()
    assert used_by(2**22 + 1) == 0
