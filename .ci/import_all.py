"""Imports every module of the installed package and makes sure that it is the installed one."""

import importlib
import pkgutil
import sys
from pathlib import Path

import interlock

if __name__ == "__main__":
    installed = Path(interlock.__file__)
    if not installed.is_relative_to(sys.argv[1]):
        sys.exit(f"interlock was imported from {installed}, not from {sys.argv[1]}")
    for module in pkgutil.walk_packages(interlock.__path__, "interlock."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
