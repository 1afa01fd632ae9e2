"""Undoing at work: the workflow that every runner has, and what a replica does with an undo of one of its agent's tools."""

from interlock.actors.agent_context import AgentContext
from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.schemas.canonical import decode
from interlock.schemas.errors import InterlockError, Stopped, ToolRefused, from_wire
from interlock.schemas.undo import SPEC, UNDO, Undo, Undone, UndoPlan, UndoReport, UndoTask


async def _undo(request: UndoTask, ctx: WorkflowContext) -> UndoReport:
    """One undo after the other. Where one fails a human says whether it is tried again or left as it is; the others follow either way."""
    plan = await ctx.receive(UndoPlan)
    undone, left = list[int](), list[int]()
    if plan.doubt and plan.undos and not await _is_wanted(plan, request, ctx):
        return UndoReport(undone=[], left=[one.n for one in plan.undos])
    for one in plan.undos:
        done = await _is_done(one, request, ctx)
        (undone if done else left).append(one.n)
    return UndoReport(undone=undone, left=left)


async def _is_wanted(plan: UndoPlan, request: UndoTask, ctx: WorkflowContext) -> bool:
    text = (
        f"{request.task} ended and is to be undone, but {plan.doubt}: what is undone now it might do once more. "
        "Look there: approve to undo it all the same, deny to leave everything as it is."
    )
    return (await ctx.ask_human(text, task=request.task, undos=[one.tool for one in plan.undos])).approved


async def _is_done(one: Undo, request: UndoTask, ctx: WorkflowContext) -> bool:
    while True:
        try:
            await ctx.ask(one, returns=Undone)
        except Stopped:
            raise
        except InterlockError as error:
            text = (
                f"Undoing {request.task} by {one.tool} failed: {error} "
                "Approve to try it again, deny to leave it as it is and go on with what else is to be undone."
            )
            if not (await ctx.ask_human(text, task=request.task, tool=one.tool, arguments=one.arguments)).approved:
                return False
        else:
            return True


async def take_back(request: Undo, ctx: AgentContext) -> Undone:
    """Call the tool, as an effect like any other."""
    tool = ctx.tool(request.tool)
    if tool is None:
        problem = "this replica does not have it"
        raise ToolRefused(tool=request.tool, problem=problem, remedy="Deploy the app whose agent declares it.")
    answer = await ctx.call_json(tool, request.arguments)
    if not answer.ok:
        raise from_wire(decode(answer.value))
    return Undone(value=decode(answer.value))


DEFINITION = WorkflowDefinition(UNDO, SPEC.version, _undo, UndoTask, UndoReport, None, None, (UndoPlan,), None)
