"""Settings: where the model is and where the bus keeps its files, read from the environment once, at the edge."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from interlock.schemas.errors import InterlockError, NoModel
from interlock.schemas.places import LEDGER_FILE, LEDGER_VARIABLE, Database, Place, ledger_in

T = TypeVar("T")

DEFAULT_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """An OpenAI-compatible chat-completions endpoint. `prices` is the path of a file that overrides published prices, `rates` of
    one with what may be asked in a minute, `bounds` of one that says how many tokens a request may be."""

    base_url: str = ""
    api_key: str = ""
    model: str = ""
    prices: str = ""
    rates: str = ""
    bounds: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """`OPENAI_BASE_URL`, `OPENAI_API_KEY`, `INTERLOCK_MODEL`, `INTERLOCK_PRICES`, `INTERLOCK_RATES`, `INTERLOCK_BOUNDS`; what
        is not set is empty."""
        env = os.environ if env is None else env
        return cls(
            base_url=env.get("OPENAI_BASE_URL", ""),
            api_key=env.get("OPENAI_API_KEY", ""),
            model=env.get("INTERLOCK_MODEL", ""),
            prices=env.get("INTERLOCK_PRICES", ""),
            rates=env.get("INTERLOCK_RATES", ""),
            bounds=env.get("INTERLOCK_BOUNDS", ""),
        )

    def required(self) -> Self:
        """These settings, or `NoModel` that names what is missing. An endpoint of one's own may need no key."""
        missing = [] if self.model else ["INTERLOCK_MODEL"]
        if not self.api_key and not self.base_url:
            missing.insert(0, "OPENAI_API_KEY")
        if missing:
            raise NoModel(missing=" and ".join(missing) + (" is" if len(missing) == 1 else " are"))
        return self


def home(env: Mapping[str, str] | None = None) -> Path:
    """Where a bus on this machine keeps its ledger and files: `INTERLOCK_HOME`, by default `.interlock` in the current folder."""
    env = os.environ if env is None else env
    return Path(env.get("INTERLOCK_HOME") or ".interlock").absolute()


def checkpoint_place(env: Mapping[str, str] | None = None) -> str:
    """Where copies of the ledger's checkpoints go: `INTERLOCK_CHECKPOINTS`, a path or an http(s) URL; empty where it is not set."""
    env = os.environ if env is None else env
    place = env.get("INTERLOCK_CHECKPOINTS", "")
    return place if not place or place.startswith(("http://", "https://")) else str(Path(place).absolute())


BUS_FILE = "bus.json"
"""In a bus's folder, from `interlock up` to `interlock down`: where the bus is."""

SECRETS_FILE = "secrets.json"
"""In a bus's folder, readable by its owner only: the model key, what tools declare, and the database of the ledger."""


def noted(file: Path, kind: type[T]) -> T | None:
    """What a bus has noted in a file of its folder; none where there is no such file. Raises `InterlockError` where it is something
    else."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, kind):
        detail = (
            f"{file} is not what a bus wrote there, so it cannot be known what it said. Nothing was done; remove it, then `interlock up`."
        )
        raise InterlockError(detail=detail)
    return found


def noted_ledger(folder: Path) -> Database | None:
    """The database that the bus of this folder keeps its ledger in; none where it is a file, or there is no bus."""
    url = (noted(folder / SECRETS_FILE, dict) or {}).get(LEDGER_VARIABLE)
    return Database(url) if url else None


def ledger_of(folder: Path, env: Mapping[str, str] | None = None) -> Place:
    """Where the ledger of the bus of this folder is: where `INTERLOCK_LEDGER` says, else where it was, else in the folder's own file."""
    return ledger_in(os.environ if env is None else env) or noted_ledger(folder) or folder / LEDGER_FILE
