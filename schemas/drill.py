"""The drill's own task type: every bus runs it beside what apps declare, so that the switch can be tried without touching real work."""

from interlock.schemas.budget import Budget
from interlock.schemas.message import Message, contract_of
from interlock.schemas.specs import ContractRef, Escalate, WorkflowSpec

DRILL = "interlock.drill"
SECONDS = 600


class Drill(Message, contract="interlock.drill", version="1.0.0"):
    """A synthetic task: it waits, calls nobody, and says what it was told."""

    said: str = ""


_REF = ContractRef(*contract_of(Drill))
SPEC = WorkflowSpec(
    name=DRILL,
    version="1.0.0",
    request=_REF,
    result=_REF,
    limits=Budget(tokens=1, steps=1, seconds=SECONDS).limits(),
    escalate=Escalate(to="operators"),
)
