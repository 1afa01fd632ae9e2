"""The tree of errors: what the bus refuses, limits and orders, work that failed, the place it runs in.

Each says what happened, what it means and what to do next; see `error.py` for how they are made and how they travel.
"""

from interlock.schemas.error import InterlockError as InterlockError
from interlock.schemas.error import from_wire as from_wire

# --- input that the bus refuses -------------------------------------------------------------------------------------


class Refused(InterlockError):
    """The bus would not do it; nothing was changed."""

    code = "refused"


class InvalidMessage(Refused):
    code = "invalid_message"
    template = "{contract} {version} refuses this message: at {pointer}: {problem}. Nothing was sent; correct the field and send it again."


class UnknownContract(Refused):
    code = "unknown_contract"
    template = "No contract {contract} {version} is registered. Known: {known}. Register it, or name one of these."


class InvalidSchema(Refused):
    code = "invalid_schema"
    template = "{contract} {version} is not a valid JSON Schema: at {pointer}: {problem}. It was not registered; correct the schema."


class RemoteReference(Refused):
    code = "remote_reference"
    template = "{contract} {version} refers to {ref}, which lies outside the schema. The bus never fetches a schema; copy the definition under $defs."


class ContractConflict(Refused):
    code = "contract_conflict"
    template = "{contract} {version} is already registered with other content. A published version never changes; register it as {next_version} or higher."


class IncompatibleContract(Refused):
    code = "incompatible_contract"
    template = "{contract} {version} is not compatible with {old_version}: {reason}. Nothing was registered; keep accepting what {old_version} accepts, or register it as {next_major}."


class UnknownTaskType(Refused):
    code = "unknown_task_type"
    template = "No workflow is called {task_type!r}. This bus runs: {known}. Deploy the app that declares it, or use one of these names."


class UnknownTask(Refused):
    code = "unknown_task"
    template = "No task {task} is known to this bus. `interlock tasks` lists those that are."


class UnknownAgent(Refused):
    code = "unknown_agent"
    template = "No agent is called {agent!r}. This bus runs: {known}."


class TooManyReplicas(Refused):
    code = "too_many_replicas"
    template = "Agent {agent} has at most {bound} replicas and {asked} were asked. Raise replicas= in its declaration, or ask for fewer."


class OtherApp(Refused):
    code = "other_app"
    template = 'This bus keeps app {running}, and {app} is another one: nobody would work for the tasks of {running} any more. Nothing was deployed. If it is the same app under a new name, declare it App("{app}", formerly=({formerly},)); else give {app} a home of its own (INTERLOCK_HOME).'


class UnknownItem(Refused):
    code = "unknown_item"
    template = "Nothing called {item} waits in the inbox. `interlock inbox` lists what does."


class AlreadyDecided(Refused):
    code = "already_decided"
    template = "{item} was already {decision} by {by}. A decision never changes."


class TaskConflict(Refused):
    code = "task_conflict"
    template = "Task {task} already exists with another request. The first one stands; submit under another id to start a second task."


class AlreadyEnded(Refused):
    code = "already_ended"
    template = "{task} has ended already, as {outcome}. There is nothing to stop; `interlock show {task}` shows it."


class TaskOver(Refused):
    code = "task_over"
    template = "{task} has ended already, as {outcome}: nobody is there to receive this {contract}. Nothing was sent; `interlock show {task}` shows how it ended."


class NotReceived(Refused):
    code = "not_received"
    template = "Workflow {workflow} does not receive {contract} {version}. It receives: {known}. Nothing was sent; send one of these, or name the class in receives= where the workflow is declared."


class MessageConflict(Refused):
    code = "message_conflict"
    template = (
        "Message {message} was sent to {task} before with other content. The first one stands; send under another id to say something else."
    )


class TooManyMessages(Refused):
    code = "too_many_messages"
    template = "{task} was sent {bound} messages already, and more a task does not take. Nothing was sent; submit another task."


class NoRoute(Refused):
    code = "no_route"
    template = "No agent takes {contract} {version} and answers with {returns}. Agents that take {contract}: {known}. Declare one with accepts= and returns= that fit."


class AmbiguousRoute(Refused):
    code = "ambiguous_route"
    template = (
        "{agents} all take {contract} and answer with {returns}, so the bus cannot choose. Give one of them another contract or answer."
    )


class EntryRefused(Refused):
    code = "entry_refused"
    template = "{task_type} does not take this request: its entry condition {condition} {problem}. Nothing was started; submit when the condition holds."


class BudgetTooSmall(Refused):
    code = "budget_too_small"
    template = "The budget is too small to start: {limit} is {allowed} and the first step needs {needed}. Raise {limit}, or ask for less."


class BudgetRaised(Refused):
    code = "budget_raised"
    template = "A submit may only lower the workflow's budget: {limit} is {allowed} and {asked} was asked. Ask for at most {allowed}, or change the workflow."


class BadDeclaration(Refused):
    """An app that cannot be deployed, said at the line that declares it."""

    code = "bad_declaration"
    template = "{what}: {problem}. {remedy}"


class Overloaded(Refused):
    code = "overloaded"
    template = "{live} tasks are live and the bound is {bound}. Nothing was accepted; submit again in {retry_after} s."


class UnknownPrice(Refused):
    code = "unknown_price"
    template = "No price is known for model {model!r}, so a limit on money cannot be kept. Set INTERLOCK_PRICES to a file that names it, or drop usd from the budget."


class UnboundedCall(Refused):
    code = "unbounded_call"
    template = "What this call of model {model} may cost has no upper bound: {problem}. It was not sent; {remedy}"


# --- limits and orders ----------------------------------------------------------------------------------------------


class Stopped(InterlockError):
    """The task may do nothing more; whoever works for it lets go."""

    code = "stopped"


class BudgetExceeded(Stopped):
    code = "budget_exceeded"
    template = "The task's limit on {limit} is reached: {allowed} allowed, {used} used, {reserved} reserved, {asked} more asked. Submit it again with a higher limit, or make the task smaller."


class Fenced(Stopped):
    code = "fenced"
    template = "{task} is stopped ({why}); nothing more is granted to it."


class StaleAttempt(Stopped):
    code = "stale_attempt"
    template = "This attempt {attempt} of {dispatch} is no longer the current one ({current}); its work is refused."


class CallCancelled(Stopped):
    code = "call_cancelled"
    template = "The call of model {model} was cancelled before its answer came; if it was on its way it is charged in full. Whoever cancelled it wants no answer."


# --- work that failed -----------------------------------------------------------------------------------------------


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


class WorkflowFailed(WorkFailed):
    code = "workflow_failed"
    template = "Workflow {workflow} raised {error}: {problem}. The task has failed; the record shows how far it came."


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


# --- the place it runs in -------------------------------------------------------------------------------------------


class NotRunning(InterlockError):
    code = "not_running"
    template = "No bus is running at {address}. Start one with `interlock up`, or give --address."


class AlreadyRunning(InterlockError):
    code = "already_running"
    template = "A bus is running there already, so {name} was not started. Stop it with `interlock down` (its tasks are kept), or set INTERLOCK_HOME to another folder."


class NotPrivate(InterlockError):
    code = "not_private"
    template = "{path} belongs to another user or is no folder, so what this bus keeps there could be read or forged. Nothing was started; remove it, or set INTERLOCK_HOME to a folder of your own."


class NotAnswering(NotRunning):
    code = "not_answering"
    template = "The bus at {address} did not answer within {seconds} s: it is frozen, cut off, or very busy. Whether the call was carried out is not known; it may be made again."


class OrderStands(InterlockError):
    code = "order_stands"
    template = "The supervisor does not answer. The order to stop {task} is durable in {path} and is carried out as soon as a supervisor runs again; then `interlock kill {task}` prints the receipt. Until then nothing is known to have stopped."


class NotBorn(InterlockError):
    code = "not_born"
    template = "The app is deployed but nobody of {pool} came to life: {problem}. Correct that and start the bus again."


class RayFailed(InterlockError):
    code = "ray_failed"
    template = "Ray did not start; it ended with: {said}. The rest of what it printed is in {log}."


class NoModel(InterlockError):
    code = "no_model"
    template = "No model is configured: {missing} not set. Set OPENAI_API_KEY and INTERLOCK_MODEL (and OPENAI_BASE_URL for your own endpoint), or try `interlock demo`, which needs none."


class NotARepository(InterlockError):
    code = "not_a_repository"
    template = (
        "{path} is not a git repository with at least one commit. Give --repo a repository, or run `git init` and commit there first."
    )


class NoSandbox(InterlockError):
    code = "no_sandbox"
    template = (
        "Code that a model wrote needs a sandbox and none works here: {problem}. Install bubblewrap, or accept the risk with --unsafe-exec."
    )


class NoLedger(InterlockError):
    code = "no_ledger"
    template = "No ledger can be opened at {path}: {problem}. {remedy}"


class LedgerExists(InterlockError):
    code = "ledger_exists"
    template = "A ledger already exists at {path}. It was left as it is; open it, or give another path."


class LedgerDamaged(InterlockError):
    code = "ledger_damaged"
    template = "The ledger is not intact: entry {seq}: {problem}. Stop the bus and keep the file; restore the last good backup."


class StaleEpoch(InterlockError):
    code = "stale_epoch"
    template = "Epoch {epoch} has been followed by {current}; this orchestrator is no longer the one and exits."


class SupervisorGone(InterlockError):
    code = "supervisor_gone"
    template = "The supervisor ended before the receipt for {task} was ready. The order stands and is carried out when the supervisor starts again; ask for the receipt then."


class StaleIncarnation(InterlockError):
    code = "stale_incarnation"
    template = "Incarnation {incarnation} of the supervisor has been followed by {current}; this one is no longer the one and exits."


class StoreFailed(InterlockError):
    code = "store_failed"
    template = "The store at {path} cannot be written: {problem}. Nothing unwritten was acknowledged; free the disk or restore it and start the bus again."
