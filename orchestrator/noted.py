"""What agents say of themselves beside their work: recorded once, whichever attempt said it first, and nobody waits for it.

A replica says it again to each new orchestrator, and another attempt of the same dispatch says the same under the same number.
"""

from typing import TYPE_CHECKING

from interlock.orchestrator.channel import Channel
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode
from interlock.schemas.frames import Noted

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

_KINDS: dict[str, type[e.ContextFolded] | type[e.SelfChecked]] = {cls.KIND: cls for cls in (e.ContextFolded, e.SelfChecked)}


def noted(engine: "Engine", replica: Channel, frame: Noted) -> None:
    """Record it, where it is new and of the attempt that counts."""
    dispatch = engine.dispatches.current(replica, frame.dispatch, frame.attempt)
    if dispatch is not None and frame.n > dispatch.noted:
        fact = _KINDS[frame.kind](frame.dispatch, frame.attempt, frame.n, **decode(frame.facts))
        engine.record(engine.tasks[dispatch.task], fact)
