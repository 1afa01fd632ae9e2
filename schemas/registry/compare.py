"""Is a new version compatible with an old one? Three answers: `compatible` (proved), `incompatible`, `unknown`.

Compatible means that the new schema accepts every value that the old one accepts. The answer always comes: the proof runs
in a process of its own, ended after `SECONDS`, and what it cannot prove within them is `unknown`. Whoever asks treats
`unknown` as a refusal.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from interlock.schemas.canonical import encode
from interlock.schemas.registry import judge

SECONDS = 10.0

Status = Literal["compatible", "incompatible", "unknown"]


class Verdict(NamedTuple):
    """`reason` says what is lost or what stands in the way of a proof; empty for `compatible`."""

    status: Status
    reason: str = ""


def covers(new: Any, old: Any, seconds: float = SECONDS) -> Verdict:
    """Whether `new` accepts everything that `old` accepts. Both are valid JSON Schemas 2020-12."""
    # Bytes, not `==`: to Python 1 and true are equal.
    if encode(new) == encode(old):
        return Verdict("compatible")
    # -P: the folder of the script, with its plain names, stays off the child's import path.
    command = [sys.executable, "-P", str(Path(judge.__file__))]
    try:
        child = subprocess.run(
            command, input=json.dumps({"new": new, "old": old}), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict("unknown", f"the comparison did not end within {seconds:g} s; make the schemas simpler")
    if child.returncode != 0:
        return Verdict("unknown", f"the comparison broke off ({_last_line(child.stderr) or child.returncode}); make the schemas simpler")
    status, reason = json.loads(child.stdout)
    return Verdict(cast(Status, status), reason)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:200]
