"""What the orchestrator knows of one effect, as part of the fold of its task's entries (`state.py`)."""

from dataclasses import dataclass
from typing import Any, Literal

from interlock.orchestrator.channel import Channel
from interlock.schemas.canonical import Fragment

EffectStatus = Literal["asked", "reserving", "granted", "calling", "unknown", "ended", "stopped"]


@dataclass(slots=True)
class EffectState:
    """One effect of a dispatch. `attempt` is the one that holds it; `value` JSON once it has ended. A `stopped` one is answered to nobody:
    an order against its task is on its way, or its dispatch was closed before it began.

    Of a write: `key` is its idempotency key, `deed` names what others wait for meanwhile, `granted` is the attempt that may have done it,
    at the replica `holder`; `doubted` says that nobody knew it once, `differs` that its result is that of a call with other arguments,
    `settled` that the ledger says what is known of its deed. Of a tool call: `held` says that the supervisor holds a reservation for it.
    Of a model call: `instead_of` is the model in whose place this one is asked.
    """

    id: str
    kind: str
    name: str
    attempt: str
    status: EffectStatus = "asked"
    args: bytes = b""
    number: int = 1
    ok: bool = False
    value: bytes = b""
    gateway: Channel | None = None
    latency_ms: float = 0.0
    key: str = ""
    deed: str = ""
    granted: str = ""
    holder: str = ""
    doubted: bool = False
    differs: bool = False
    settled: bool = False
    held: bool = False
    instead_of: str = ""

    @property
    def to_settle(self) -> bool:
        """Whether the ledger does not say yet what is known of its deed, now that it has ended."""
        return bool(self.deed) and self.status == "ended" and not self.settled and (self.doubted or (self.ok and self.keyed))

    @property
    def unbegun(self) -> bool:
        """Whether it is a tool call of which it is certain that it never happened."""
        return self.kind != "model" and self.status in ("asked", "reserving") and not self.doubted

    @property
    def keyed(self) -> bool:
        """Whether its deed is named by a key, and so remembered once it is done."""
        return bool(self.deed) and self.deed == self.key

    def evidence(self) -> dict[str, Any]:
        """What the tool answered, for the workflow."""
        said = {"tool": self.name, "ok": self.ok, "value": Fragment(self.value)}
        return {**said, "arguments_differ": True} if self.differs else said
