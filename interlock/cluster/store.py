"""What the supervisor keeps of an app beside its journal: the code, as a file that only replicas and runners open."""

import os
import pickle
from pathlib import Path

from interlock.cluster.code import Code

CODE_FILE = "code.pkl"


def write_code(home: str, code: Code, secrets: dict[str, list[str]]) -> None:
    """Keep the code, and which secrets each agent's tools declare, durably."""
    draft = Path(home) / f".{CODE_FILE}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump((code, secrets), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(Path(home) / CODE_FILE)


def read_code(home: str) -> tuple[Code, dict[str, list[str]]]:
    code, secrets = pickle.loads((Path(home) / CODE_FILE).read_bytes())
    return code, secrets
