"""Compares a wheel with the tree: every tracked file of a package is in it, and nothing else."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]


def expected() -> set[str]:
    """Where each tracked file of a package belongs in the wheel; links are the tree's own and belong nowhere."""
    folders: dict[str, str] = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    listed = subprocess.run(["git", "-C", str(TREE), "ls-files", "--stage"], capture_output=True, text=True, check=True).stdout
    wanted = set()
    for line in listed.splitlines():
        mode, path = line.split()[0], line.split("\t")[1]
        homes = [package for package, folder in folders.items() if path.startswith(f"{folder}/")]
        if mode != "120000" and homes:
            package = max(homes, key=lambda name: len(folders[name]))
            wanted.add(package.replace(".", "/") + path.removeprefix(folders[package]))
    return wanted


def main(wheel: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    lacks, surplus = sorted(expected() - found), sorted(found - expected())
    return "\n".join([*(f"the wheel lacks {name}" for name in lacks), *(f"not in the tree: {name}" for name in surplus)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) or None)
