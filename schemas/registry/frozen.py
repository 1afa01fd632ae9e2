"""Contracts in files, one for each version, beside the code that declares them: what was published is there to be seen and cannot drift.

A file is written once. A class that says something else under the same version is refused.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import FrozenDiffers
from interlock.schemas.registry.versions import next_patch


def freeze(schemas: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write what is new of `schemas` ("name version" to JSON Schema), and say what that was. Raises `FrozenDiffers` and writes nothing."""
    new = {}
    for key, schema in schemas.items():
        name, _, version = key.partition(" ")
        file = folder / f"{name}-{version}.json"
        if not file.exists():
            new[file] = schema
        elif not _is(file, schema):
            raise FrozenDiffers(contract=name, version=version, file=str(file), next_version=next_patch(version, _frozen(name, folder)))
    folder.mkdir(parents=True, exist_ok=True)
    for file, schema in new.items():
        _write(file, json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    return sorted(new)


def _write(file: Path, text: str) -> None:
    """Whole or not at all: half a file would differ for ever from what was to be published."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _is(file: Path, schema: Any) -> bool:
    try:
        return encode(decode(file.read_bytes())) == encode(schema)
    except ValueError:
        return False


def _frozen(name: str, folder: Path) -> list[str]:
    """The versions of a contract that have a file."""
    return [file.name.removeprefix(f"{name}-").removesuffix(".json") for file in folder.glob(f"{name}-[0-9]*.json")]
