"""The drill's workflow, as every runner has it: it only waits, to be stopped."""

from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.schemas.drill import DRILL, SECONDS, SPEC, Drill


async def _drill(request: Drill, ctx: WorkflowContext) -> Drill:
    await ctx.sleep(SECONDS)
    return request


DEFINITION = WorkflowDefinition(DRILL, SPEC.version, _drill, Drill, Drill, None, None)
