"""The shared vocabulary, and `check`, which compares two schemas. Nothing is imported before it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.schemas.registry.verdict import Verdict, check

_HOMES = {"check": "interlock.schemas.registry.verdict", "Verdict": "interlock.schemas.registry.verdict"}

__all__ = ["Verdict", "check"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
