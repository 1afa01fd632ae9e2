"""Errors of work: an agent, a tool, a model or a workflow did not deliver.

Part of the tree in `errors.py`, from where everybody imports them.
"""

from interlock.schemas.error import InterlockError


class WorkFailed(InterlockError):
    """An agent, a tool, a model or a workflow did not deliver."""

    code = "work_failed"


class AgentFailed(WorkFailed):
    code = "agent_failed"
    template = "Agent {agent} failed on {contract}: {problem}. The workflow may catch AgentFailed and go another way."


class ToolFailed(WorkFailed):
    code = "tool_failed"
    template = "Tool {tool} failed: {problem}. {remedy}"


class ToolRefused(WorkFailed):
    """A tool call that never ran: unknown tool, bad arguments, not allowed here. The model reads it and may correct itself."""

    code = "tool_refused"
    template = "Tool {tool} was not called: {problem}. {remedy}"


class ToolTimeout(WorkFailed):
    code = "tool_timeout"
    template = "Tool {tool} did not end within {seconds} s and nobody waits for it any more. Whether it took effect may be unknown; raise its timeout= or make it faster."


class CircuitOpen(WorkFailed):
    """A tool call that never ran: the system behind the tool has failed again and again, and is left alone for a while."""

    code = "circuit_open"
    template = "Tool {tool} was not called: {problem}. Nothing was done; call it again later, or go on without it."


class PatchFailed(WorkFailed):
    """A diff that was not applied; nothing in the worktree changed. The model reads it and may write a better one."""

    code = "patch_failed"
    template = "The diff was not applied: {problem}. {remedy}"


class GitFailed(WorkFailed):
    code = "git_failed"
    template = "git {command} failed: {problem}. {remedy}"


class BranchMoved(WorkFailed):
    code = "branch_moved"
    template = "Branch {branch} is at {found}, not at {expected} where this work began; nothing was committed. Start again from {found}."


class NoTestRun(WorkFailed):
    code = "no_test_run"
    template = "The tests of {repository} could not be run: {problem} Nothing was committed; correct what it names and submit again."


class NotApproved(WorkFailed):
    code = "not_approved"
    template = "No diff for {subtask!r} was approved in {rounds} rounds, and {by} said not to go on{note}. Nothing was committed; the record shows each diff with what its tests said. Make the goal smaller, or correct by hand what stands in the way."


class ModelFailed(WorkFailed):
    code = "model_failed"
    template = "The model {model} at {endpoint} gave no answer after {attempts} attempts: {problem}. Check the endpoint, the key and the model's name, then submit again."


class ModelRefused(WorkFailed):
    """The endpoint said no and would say no again (bad request, bad key, unknown model)."""

    code = "model_refused"
    template = "The model {model} at {endpoint} refused the call ({status}): {problem}. Trying again would not help; correct the request, the key or the model's name."


class BadReply(WorkFailed):
    code = "bad_reply"
    template = "Agent {agent} answered with something that {contract} {version} refuses, also after one repair: at {pointer}: {problem}."


class Unreadable(WorkFailed):
    """A message that its contract allows and the code that should read it does not."""

    code = "unreadable"
    template = "Class {cls} cannot read this {contract} {version}: at {pointer}: {problem}. The contract allows it; correct the class so that it reads all that its contract allows."


class MigrationFailed(WorkFailed):
    """What a migration made of a message is nothing that its reader knows, or it made nothing."""

    code = "migration_failed"
    template = "The migration {migration} failed on this message: {problem}. Correct it, deploy the app again, and submit the task again."


class WorkflowFailed(WorkFailed):
    code = "workflow_failed"
    template = "Workflow {workflow} raised {error}: {problem}. The task has failed; the record shows how far it came."


class LoopDetected(WorkFailed):
    """The same was asked again and again, and the same was heard."""

    code = "loop_detected"
    template = "loop detected: {who} asked the same and heard the same {times} times: {cycle}. It goes round in circles and was stopped; change what sends it round, or allow more with repeats= where it is declared."


class Drifted(WorkFailed):
    """A model that was off its goal, by its own account."""

    code = "drifted"
    template = "drifted: agent {agent} was not on its goal in {checks} self-checks in a row, the last one after {steps} steps ({said}). It was stopped; say its goal or its instructions more clearly, give it less to do at once, or let it be asked less often (Conversation(check_every=...))."


class Stalled(WorkFailed):
    """A workflow that hangs, ends its process or uses up its memory, again and again."""

    code = "stalled"
    template = "stalled: {losses} runners were lost in the middle of workflow {workflow}, the last one ({runner}) because {why}. It is not tried again; make its code come to rest after each event, then submit the task again."


class ExitFailed(WorkFailed):
    code = "exit_failed"
    template = "exit condition: {condition} does not hold for the result. The task has failed though its workflow ended."


class Unsupported(InterlockError):
    """A workflow used something of asyncio that cannot be replayed."""

    code = "unsupported"
    template = "{what} cannot be replayed inside a workflow. Use {instead} instead."


class Diverged(InterlockError):
    code = "diverged"
    template = "The replay of {task} asked {found} where the record says {recorded} (command {n}). Nothing was sent; deploy code that makes the recorded asks in order."


class DirectCall(InterlockError):
    code = "direct_call"
    template = "{tool} was called directly. Inside an agent a tool is an effect: write `await ctx.call({tool}, ...)`. A test may call `{tool}.function(...)`."


class TaskFailed(InterlockError):
    """`Task.result()` of a task that did not end in success; `.outcome`, `.reason` and `.record` say how."""

    code = "task_failed"
    template = "{task} ended as {outcome}: {reason}. `interlock show {task}` shows every step."
