"""Contracts in files: a file is there whole, or not at all."""

import os
from pathlib import Path

import pytest

from interlock.schemas.registry.frozen import freeze

SCHEMA = {"title": "Größe"}


def test_a_write_that_breaks_off_leaves_no_file_and_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Path) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as failing:
        failing.setattr(os, "replace", broken)
        with pytest.raises(OSError, match="the disk is full"):
            freeze({"size 1.0.0": SCHEMA}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert freeze({"size 1.0.0": SCHEMA}, tmp_path) == [tmp_path / "size-1.0.0.json"]
    assert "Größe".encode() in (tmp_path / "size-1.0.0.json").read_bytes()
    assert freeze({"size 1.0.0": SCHEMA}, tmp_path) == []
