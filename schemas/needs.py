"""What an agent's replica needs of a node: declared with the agent, counted by Ray, which places no more on a node than it has.

What is needed is set aside, not enforced: how much memory a replica may really use is its agent's `memory=`.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from interlock.schemas.errors import BadDeclaration
from interlock.schemas.sizes import bytes_in

_RESERVED = ("CPU", "GPU", "memory", "object_store_memory")


@dataclass(frozen=True, slots=True)
class Needs:
    """`num_cpus` and `num_gpus` may be fractions; `memory` as in "4GB"; `custom` are resources that nodes were given by name, as in
    `{"licence": 1}`; `runtime_env` is Ray's: packages, environment variables, a working directory. Anybody who sees Ray's dashboard
    reads it, so it is no place for a secret: a tool declares those."""

    num_cpus: float = 0
    num_gpus: float = 0
    memory: str | int = 0
    custom: dict[str, float] = field(default_factory=dict)
    runtime_env: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", bytes_in("Needs(...)", self.memory))
        for name, amount in {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, **self.custom}.items():
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not math.isfinite(amount) or amount < 0:
                _refuse(f"{name}={amount!r} is no amount", "Write as in Needs(num_cpus=2, memory='4GB', custom={'licence': 1}).")
        if wrong := [name for name in self.custom if not isinstance(name, str) or name in _RESERVED]:
            _refuse(f"custom={wrong} names what Ray counts itself", "Use num_cpus=, num_gpus= or memory= for it.")
        try:
            json.dumps(self.runtime_env, allow_nan=False)
        except (TypeError, ValueError) as error:
            _refuse(f"its runtime_env is not plain data ({error})", "Write it with texts, numbers, lists and dicts alone.")

    @property
    def amounts(self) -> dict[str, float]:
        """What is needed, by the names that Ray counts under."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory), **self.custom}
        return {name: amount for name, amount in asked.items() if amount}


def _refuse(problem: str, remedy: str) -> None:
    raise BadDeclaration(what="Needs(...)", problem=problem, remedy=remedy)
