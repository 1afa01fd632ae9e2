"""What the actors of a bus are told when they are made: names, places, settings. Secrets are in a file of their own, never here."""

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from interlock.schemas.errors import NotPrivate
from interlock.schemas.places import JOURNAL_FILE, LEDGER_FILE, LEDGER_VARIABLE, Place
from interlock.settings import BUS_FILE as BUS_FILE
from interlock.settings import SECRETS_FILE, ModelSettings, noted_ledger

ORCHESTRATOR, SUPERVISOR, REGISTRY, WARDEN = "orchestrator", "supervisor", "registry", "warden"
MODEL_KEY = "OPENAI_API_KEY"
CHECKPOINTS = "INTERLOCK_CHECKPOINTS"
"""Among the secrets: a URL that takes checkpoints may hold a token."""
DEFAULT_NAME = "interlock"

_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "HEADERS")
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*:[^/?#\s]*@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BusConfig:
    """`name` is the Ray namespace. `home` keeps ledger, journal and secrets on the ledger's node, `run_dir` the boards on every node."""

    name: str
    home: str
    run_dir: str
    node: str
    model: ModelSettings

    @property
    def ledger(self) -> Place:
        """On the ledger's node: a database is named in a file there, with its password, and nowhere else."""
        return noted_ledger(Path(self.home)) or Path(self.home) / LEDGER_FILE

    @property
    def journal(self) -> Place:
        return noted_ledger(Path(self.home)) or Path(self.home) / JOURNAL_FILE


def write_secrets(home: Path, values: Mapping[str, str]) -> None:
    """Keep secrets where only their owner reads them: a file with mode 0600 from its first byte."""
    ignored = home / ".gitignore"
    if not ignored.exists():  # the folder may lie in a repository: its owner should not commit a key by mistake
        ignored.write_text("*\n")
    draft = home / f".{SECRETS_FILE}.{os.getpid()}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(dict(values), file)
    draft.replace(home / SECRETS_FILE)


def read_secrets(home: str, names: Iterable[str]) -> dict[str, str]:
    """Those secrets of `names` that there are."""
    try:
        values = json.loads((Path(home) / SECRETS_FILE).read_text())
    except FileNotFoundError:
        return {}
    return {name: values[name] for name in names if name in values}


def scrub(environment: "os._Environ[str]") -> None:
    """Take what looks like a secret out of this process's environment before user code loads.

    Its children are clean then; `/proc/self/environ` still shows what the process was started with.
    """
    for name in list(environment):
        named = any(word in name.upper() for word in _SECRET_WORDS)
        named = named or name == LEDGER_VARIABLE
        if (named or _URL_WITH_PASSWORD.search(environment[name])) and not name.startswith("RAY_"):
            del environment[name]


def private_folder(folder: Path) -> Path:
    """The folder, made if need be, that only this user enters. Raises `NotPrivate` where another user, or a link, has its place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NotPrivate(path=str(folder))
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder
