"""Deploy: code, no model. It says on which commit work begins, and commits what was approved to a branch of its own.

The commit is the team's one irreversible act: it waits for a person's approval, and carries its key as a trailer, so that it is made once
however often it is asked for. The user's checkout, index and HEAD are never touched.
"""

from pathlib import Path

from interlock.actors.agent_context import AgentContext
from interlock.actors.team.checkout import checkout
from interlock.actors.team.contracts import BaseReply, BaseRequest, DeployReply, DeployRequest, change_of
from interlock.schemas.message import Message
from interlock.tools.context import ToolContext
from interlock.tools.git import Repository
from interlock.tools.repeat import Keyed
from interlock.tools.tool import tool

NAME, VERSION = "deploy", "1.0.0"
SYSTEM = "git"


class Committed(Message):
    """`commit` on `branch` holds the change named `change`."""

    commit: str
    branch: str
    change: str


@tool(effect="read", timeout=60, trusted="a commit's name is computed by git")
async def find_base(repository: str, branch: str) -> str:
    """Find the commit on which work for a branch begins: its tip, or what is checked out where that is ahead or there is no such branch.

    Args:
        repository: The repository's path.
        branch: The branch that will be committed to.
    """
    return await (await Repository.open(Path(repository))).start_of(branch)


@tool(effect="irreversible", system=SYSTEM, repeat=Keyed("change"), timeout=120, trusted="a commit's name is computed by git")
async def commit_to_staging(
    change: str, repository: str, branch: str, base: str, text: str, diffs: list[str], ctx: ToolContext
) -> Committed:
    """Commit diffs to a branch of the team's own. Nothing that is checked out changes.

    Args:
        change: The digest of base and diffs; the same change is committed once.
        repository: The repository's path.
        branch: The branch to commit to; it is made if there is none.
        base: The commit that the diffs stand on.
        text: The commit message.
        diffs: Unified diffs, applied in order.
    """
    key = ctx.idempotency_key
    async with checkout(repository, base, diffs) as (found, worktree):
        commit = await found.commit(worktree, branch, text, key=key, when=ctx.message["when"])
    return Committed(commit=commit, branch=branch, change=change_of(base, diffs))


TOOLS = (find_base, commit_to_staging)


async def deploy(request: BaseRequest | DeployRequest, ctx: AgentContext) -> BaseReply | DeployReply:
    """Answer where work begins, or commit it."""
    if isinstance(request, BaseRequest):
        return BaseReply(commit=await ctx.call(find_base, repository=request.repository, branch=request.branch))
    done = await ctx.call(
        commit_to_staging,
        change=change_of(request.base, request.diffs),
        repository=request.repository,
        branch=request.branch,
        base=request.base,
        text=request.text,
        diffs=request.diffs,
    )
    return DeployReply(commit=done.commit, branch=done.branch)
