"""What the supervisor keeps of an app beside its journal: the code, as a file that only replicas and runners open."""

import os
import pickle
from pathlib import Path

from interlock.cluster.code import Code
from interlock.schemas.needs import Needs

CODE_FILE = "code.pkl"


def write_code(home: str, code: Code, secrets: dict[str, list[str]], needs: dict[str, Needs]) -> None:
    """Keep the code, which secrets each agent's tools declare, and what each agent's replicas need, durably."""
    draft = Path(home) / f".{CODE_FILE}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump((code, secrets, needs), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(Path(home) / CODE_FILE)


def read_code(home: str) -> tuple[Code, dict[str, list[str]], dict[str, Needs]]:
    code, secrets, *needs = pickle.loads((Path(home) / CODE_FILE).read_bytes())
    return code, secrets, needs[0] if needs else {}  # not there in files that were written before there was such a thing
