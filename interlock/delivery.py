"""Software delivery: a goal and a git repository become a tested, approved commit on a branch of its own.

plan → per subtask: code → review, three rounds at most, then a person is asked → commit, which a person approves.

Nobody's word counts for a test: a diff is accepted only where the record holds a passed run of exactly that change, and the task succeeds
only if what was committed is what was tested.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interlock.actors.context import WorkflowContext
from interlock.actors.team import coding, deploy, planning, review
from interlock.actors.team.contracts import (
    BaseReply,
    BaseRequest,
    CodingReply,
    CodingRequest,
    Delivered,
    DeliveryReply,
    DeliveryRequest,
    DeployReply,
    DeployRequest,
    PlanningReply,
    PlanningRequest,
    Rejected,
    ReviewReply,
    ReviewRequest,
    Subtask,
    change_of,
)
from interlock.app import App
from interlock.schemas.budget import Budget
from interlock.schemas.errors import NotApproved, NoTestRun
from interlock.schemas.specs import Escalate

ROUNDS = 3
UNSAFE = "INTERLOCK_UNSAFE_EXEC"

Evidence = Sequence[Mapping[str, Any]]


class Work(NamedTuple):
    """What holds for a whole task."""

    request: DeliveryRequest
    base: str


class Accepted(NamedTuple):
    """A diff that passed, and what is told of it."""

    diff: str
    delivered: Delivered
    sandbox: str


class Verdict(NamedTuple):
    """What became of one round: the run of its tests, and what to tell whoever writes the next diff."""

    approved: bool
    tests: str
    comments: str
    sandbox: str


async def software_delivery(request: DeliveryRequest, ctx: WorkflowContext) -> DeliveryReply:
    """The workflow."""
    base = await ctx.ask(BaseRequest(repository=request.repository, branch=request.branch), returns=BaseReply)
    work = Work(request, base.commit)
    plan = await ctx.ask(PlanningRequest(repository=request.repository, base=work.base, goal=request.goal), returns=PlanningReply)
    accepted: list[Accepted] = []
    for subtask in plan.subtasks:
        accepted.append(await _do(work, subtask, [one.diff for one in accepted], ctx))
    deployed = await ctx.ask(
        DeployRequest(
            repository=request.repository,
            base=work.base,
            branch=request.branch,
            diffs=[one.diff for one in accepted],
            text=_commit_text(request.goal, accepted, ctx.task),
            when=int(ctx.now().timestamp() * 1e6),
        ),
        returns=DeployReply,
    )
    return DeliveryReply(
        commit=deployed.commit,
        branch=deployed.branch,
        base=work.base,
        delivered=[one.delivered for one in accepted],
        sandbox=accepted[-1].sandbox,
    )


async def _do(work: Work, subtask: Subtask, accepted: list[str], ctx: WorkflowContext) -> Accepted:
    """One subtask, round by round. Raises `NotApproved` once a person has said not to go on."""
    earlier: Rejected | None = None
    number = 0
    while True:
        for _ in range(ROUNDS):
            number += 1
            coded = await _code(work, subtask, accepted, number, earlier, ctx)
            verdict = await _review(work, subtask, accepted, coded, ctx)
            if verdict.approved:
                change = change_of(work.base, [*accepted, coded.diff])
                delivered = Delivered(title=subtask.title, summary=coded.summary, round=number, change=change)
                return Accepted(coded.diff, delivered, verdict.sandbox)
            earlier = Rejected(diff=coded.diff, tests=verdict.tests, comments=verdict.comments)
        assert earlier is not None, "there is at least one round"
        earlier = await _ask_on(subtask, number, earlier, ctx)


async def _code(
    work: Work, subtask: Subtask, accepted: list[str], number: int, earlier: Rejected | None, ctx: WorkflowContext
) -> CodingReply:
    request = CodingRequest(
        repository=work.request.repository,
        base=work.base,
        accepted=accepted,
        goal=work.request.goal,
        subtask=subtask,
        round=number,
        earlier=earlier,
    )
    return await ctx.ask(request, returns=CodingReply)


async def _review(work: Work, subtask: Subtask, accepted: list[str], coded: CodingReply, ctx: WorkflowContext) -> Verdict:
    before = len(ctx.evidence)
    request = ReviewRequest(
        repository=work.request.repository,
        base=work.base,
        accepted=accepted,
        goal=work.request.goal,
        subtask=subtask,
        diff=coded.diff,
        summary=coded.summary,
        test_command=work.request.test_command,
    )
    said = await ctx.ask(request, returns=ReviewReply)
    return _judge(said, ctx.evidence[before:], change_of(work.base, [*accepted, coded.diff]), work.request.repository)


def _judge(said: ReviewReply, evidence: Evidence, change: str, repository: str) -> Verdict:
    """What review said, held against what its tool recorded. Raises `NoTestRun` where the tests could not be run at all."""
    runs = [one for one in evidence if one["tool"] == review.run_tests.spec.name]
    run = _last_run(runs, change)
    if run is None and runs:
        raise NoTestRun(repository=repository, problem=runs[-1]["value"].get("message", "their result was too long."))
    if run is None:
        return Verdict(False, "Review ran no tests on this diff, so its approval does not count.", said.comments, "")
    if run["passed"]:
        return Verdict(said.approved, "All tests passed.", said.comments, run["sandbox"])
    return Verdict(False, run["problem"] or f"{run['command']}\n{run['output']}", said.comments, run["sandbox"])


def _last_run(evidence: Evidence, change: str) -> Mapping[str, Any] | None:
    """The last recorded run of the tests on exactly this change."""
    name = review.run_tests.spec.name
    found = (one["value"] for one in reversed(evidence) if one["tool"] == name and one["ok"])
    return next((value for value in found if value.get("change") == change), None)


async def _ask_on(subtask: Subtask, rounds: int, earlier: Rejected, ctx: WorkflowContext) -> Rejected:
    """Ask a person whether to try again; what the next round is told, or `NotApproved`."""
    answer = await ctx.ask_human(
        f"No diff for {subtask.title!r} was approved in {rounds} rounds. Approve to try {ROUNDS} more, with your note as a comment; "
        "deny to end the task without a commit.",
        comments=earlier.comments,
        tests=earlier.tests,
        diff=earlier.diff,
    )
    if not answer.approved:
        note = f" ({answer.note})" if answer.note else ""
        raise NotApproved(subtask=subtask.title, rounds=rounds, by=answer.by, note=note)
    return earlier.model_copy(update={"comments": f"{earlier.comments}\n{answer.by}: {answer.note}"}) if answer.note else earlier


def _commit_text(goal: str, accepted: Sequence[Accepted], task: str) -> str:
    """A commit message: the goal in one line, each subtask, and the task that the record is kept under."""
    first = " ".join(goal.split())
    subject = first if len(first) <= 72 else f"{first[:71].rsplit(' ', 1)[0]}…"
    rest = [] if subject == first else [first]
    done = "\n".join(f"- {one.delivered.title}: {one.delivered.summary}" for one in accepted)
    return "\n\n".join([subject, *rest, done, f"Task: {task}"])


def names_repository_and_goal(request: DeliveryRequest) -> bool:
    """The entry condition: a path that means the same in every process, and something to do."""
    return os.path.isabs(request.repository) and bool(request.goal.strip())


def committed_as_tested(result: DeliveryReply, evidence: Evidence) -> bool:
    """There is a commit, it holds the last change, and the last run of the tests on each accepted change has passed."""
    runs = [_last_run(evidence, one.change) for one in result.delivered]
    commits = [one["value"] for one in evidence if one["tool"] == deploy.commit_to_staging.spec.name and one["ok"]]
    made = {(one.get("commit"), one.get("change")) for one in commits}
    return all(run is not None and run["passed"] for run in runs) and (result.commit, result.delivered[-1].change) in made


def make_app(unsafe: bool = False) -> App:
    """The delivery team. `unsafe` accepts to run tests without a sandbox where none works."""
    app = App("delivery")
    app.agent(
        planning.NAME,
        version=planning.VERSION,
        instructions=planning.INSTRUCTIONS,
        accepts=PlanningRequest,
        returns=PlanningReply,
        tools=planning.TOOLS,
        replicas=(1, 4),
    )
    app.agent(
        coding.NAME,
        version=coding.VERSION,
        instructions=coding.INSTRUCTIONS,
        accepts=CodingRequest,
        returns=CodingReply,
        tools=coding.TOOLS,
        replicas=(1, 4),
    )
    app.agent(
        review.NAME,
        version=review.VERSION,
        instructions=review.INSTRUCTIONS,
        accepts=ReviewRequest,
        returns=ReviewReply,
        tools=review.TOOLS,
        replicas=(1, 4),
        resources=lambda: {"unsafe": unsafe},
    )
    app.agent(deploy.NAME, version=deploy.VERSION, tools=deploy.TOOLS)(deploy.deploy)
    app.workflow(
        "software_delivery",
        version="1.0.0",
        entry=names_repository_and_goal,
        exit=committed_as_tested,
        goal="{goal}",
        budget=Budget(tokens=400_000, steps=200, seconds=1800, writes={deploy.SYSTEM: 1}),
        escalate=Escalate(to="operators", seconds=1800),
    )(software_delivery)
    return app


app = make_app(unsafe=os.environ.get(UNSAFE) == "1")
