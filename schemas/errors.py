"""The tree of errors: what the bus refuses, limits and orders, work that failed, the place it runs in.

Each says what happened, what it means and what to do next; see `error.py` for how they are made and how they travel. Those of work that
failed are in `work_errors.py`, those of the ledger in `ledger_errors.py`, those of contracts in `contract_errors.py`.
"""

from typing import Any

from interlock.schemas.contract_errors import BadSchema as BadSchema
from interlock.schemas.contract_errors import ContractConflict as ContractConflict
from interlock.schemas.contract_errors import DishonestVersion as DishonestVersion
from interlock.schemas.contract_errors import FrozenDiffers as FrozenDiffers
from interlock.schemas.contract_errors import IncompatibleContract as IncompatibleContract
from interlock.schemas.contract_errors import InvalidSchema as InvalidSchema
from interlock.schemas.contract_errors import RemoteReference as RemoteReference
from interlock.schemas.contract_errors import UnknownContract as UnknownContract
from interlock.schemas.error import InterlockError as InterlockError
from interlock.schemas.error import Refused as Refused
from interlock.schemas.error import from_wire as from_wire
from interlock.schemas.ledger_errors import CheckpointDamaged as CheckpointDamaged
from interlock.schemas.ledger_errors import Erased as Erased
from interlock.schemas.ledger_errors import LedgerDamaged as LedgerDamaged
from interlock.schemas.ledger_errors import LedgerExists as LedgerExists
from interlock.schemas.ledger_errors import LedgerInUse as LedgerInUse
from interlock.schemas.ledger_errors import LedgerUnreachable as LedgerUnreachable
from interlock.schemas.ledger_errors import NoCheckpoints as NoCheckpoints
from interlock.schemas.ledger_errors import NoLedger as NoLedger
from interlock.schemas.ledger_errors import NoProof as NoProof
from interlock.schemas.ledger_errors import ResultErased as ResultErased
from interlock.schemas.ledger_errors import RetentionTooShort as RetentionTooShort
from interlock.schemas.ledger_errors import StaleEpoch as StaleEpoch
from interlock.schemas.ledger_errors import StorePaused as StorePaused
from interlock.schemas.ledger_errors import TaskLive as TaskLive
from interlock.schemas.work_errors import AgentFailed as AgentFailed
from interlock.schemas.work_errors import BadReply as BadReply
from interlock.schemas.work_errors import BranchMoved as BranchMoved
from interlock.schemas.work_errors import CircuitOpen as CircuitOpen
from interlock.schemas.work_errors import DirectCall as DirectCall
from interlock.schemas.work_errors import Diverged as Diverged
from interlock.schemas.work_errors import Drifted as Drifted
from interlock.schemas.work_errors import ExitFailed as ExitFailed
from interlock.schemas.work_errors import GitFailed as GitFailed
from interlock.schemas.work_errors import LoopDetected as LoopDetected
from interlock.schemas.work_errors import MigrationFailed as MigrationFailed
from interlock.schemas.work_errors import ModelFailed as ModelFailed
from interlock.schemas.work_errors import ModelRefused as ModelRefused
from interlock.schemas.work_errors import NotApproved as NotApproved
from interlock.schemas.work_errors import NoTestRun as NoTestRun
from interlock.schemas.work_errors import PatchFailed as PatchFailed
from interlock.schemas.work_errors import Stalled as Stalled
from interlock.schemas.work_errors import TaskFailed as TaskFailed
from interlock.schemas.work_errors import ToolFailed as ToolFailed
from interlock.schemas.work_errors import ToolRefused as ToolRefused
from interlock.schemas.work_errors import ToolTimeout as ToolTimeout
from interlock.schemas.work_errors import Unreadable as Unreadable
from interlock.schemas.work_errors import Unsupported as Unsupported
from interlock.schemas.work_errors import WorkFailed as WorkFailed
from interlock.schemas.work_errors import WorkflowFailed as WorkflowFailed

# --- input that the bus refuses -------------------------------------------------------------------------------------


class InvalidMessage(Refused):
    code = "invalid_message"
    template = "{contract} {version} refuses this message: at {pointer}: {problem}. Nothing was sent; correct the field and send it again."


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
    template = "Nothing called '{item}' waits in the inbox. `interlock inbox` lists what does."


class AlreadyDecided(Refused):
    code = "already_decided"
    template = "{item} was already {decision} by {by}. A decision never changes."


class UnknownLetter(Refused):
    code = "unknown_letter"
    template = "No dead letter is called '{item}'. `interlock dead list --all` lists those that there are."


class LetterOver(Refused):
    code = "letter_over"
    template = "{item} waits for no decision any more: {why}. It is still kept; `interlock dead show {item}` prints it, and its message can be submitted as another task."


class BadTaskId(Refused):
    code = "bad_task_id"
    template = "{id} is no task id: tsk_ and then lower-case letters, digits and hyphens, 64 at the most, undo- not first. Nothing was started; submit it under another id."


class BadPriority(Refused):
    code = "bad_priority"
    template = "{priority} is no priority. Nothing was started; name low, normal or high, or none for the workflow's own."


class BadTenant(Refused):
    code = "bad_tenant"
    template = "{tenant} is no tenant's name: letters and digits, between them also . _ @ and -, 64 at the most. Nothing was started; submit it for a tenant with such a name."


class TaskConflict(Refused):
    code = "task_conflict"
    template = "Task {task} already exists with another request or for another tenant. The first one stands; submit under another id to start a second task."


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
    template = "No agent takes {contract} {version} and answers with {returns}. Agents that know {contract}: {known}. Declare one with accepts= and returns= that fit, or the migration between two majors (@app.migration)."


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


class TryAgain(Refused):
    """The bus takes nothing just now; the same may be asked again after `retry_after` seconds."""

    code = "try_again"


class Overloaded(TryAgain):
    code = "overloaded"
    template = "{what}, and the bound is {bound}. Nothing was accepted; submit again in {retry_after} s."


class LedgerStalled(TryAgain):
    code = "ledger_stalled"
    template = "The ledger is stalled since {since}: {problem}. Nothing was accepted and nothing that was is lost; the bus goes on by itself, so try again in {retry_after} s."


class JournalStalled(TryAgain):
    code = "journal_stalled"
    template = "The supervisor's journal is stalled: {problem}. Nothing was accepted or granted and nothing that was is lost; the bus goes on by itself, so try again in {retry_after} s."


class Closed(Refused):
    """What an order has stopped takes nothing until somebody opens it."""

    code = "closed"
    template = "Stopped by {by} since {since}: {what} ({why}). Nothing new is let in there and nothing was started; `interlock resume{option}` opens it again."


class UnknownReplica(Refused):
    code = "unknown_replica"
    template = "No replica is called {replica!r}. Those that run: {known}."


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
    template = (
        "{whose} on {limit} is reached: {allowed} allowed, {used} used, {reserved} reserved, {asked} more asked; nothing was done. {remedy}"
    )

    def __init__(
        self,
        *,
        scope: str = "task",
        whose: str = "The task's limit",
        remedy: str = "Submit it again with a higher limit, or make the task smaller.",
        **facts: Any,
    ) -> None:
        super().__init__(scope=scope, whose=whose, remedy=remedy, **facts)


class EstimateWrong(Stopped):
    code = "estimate_wrong"
    template = "Model {model} at {endpoint} reports {over} for one call. All of it is charged and the task is stopped, for its limits rest on what a call can use at the most. Use an endpoint that keeps to max_completion_tokens and counts as its tokenizer does, or leave tokens and money out of the limits."


class Fenced(Stopped):
    code = "fenced"
    template = "{task} is stopped ({why}); nothing more is granted to it."


class StaleAttempt(Stopped):
    code = "stale_attempt"
    template = "This attempt {attempt} of {dispatch} is no longer the current one ({current}); its work is refused."


class CallCancelled(Stopped):
    code = "call_cancelled"
    template = "The call of model {model} was cancelled before its answer came; if it was on its way it is charged in full. Whoever cancelled it wants no answer."


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


class StopStands(InterlockError):
    code = "stop_stands"
    template = "The supervisor does not answer. The order to {what} {selection} is durable in {path} and is carried out as soon as a supervisor runs again; `interlock status` shows what is stopped. Until then nothing is known to have changed."


class OrderNotKept(InterlockError):
    code = "order_not_kept"
    template = "The order to stop {task} cannot be made durable: {path} cannot be written now ({problem}). Nothing was stopped and nobody will remember it, though no task is granted anything either while that lasts. Kill it again when there is room; to end everything at once, stop the bus: its tasks are kept."


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


class SupervisorGone(InterlockError):
    code = "supervisor_gone"
    template = "The supervisor ended before the receipt for {task} was ready. The order stands and is carried out when the supervisor starts again; ask for the receipt then."


class StaleIncarnation(InterlockError):
    code = "stale_incarnation"
    template = "Incarnation {incarnation} of the supervisor has been followed by {current}; this one is no longer the one and exits."


class StoreAway(InterlockError):
    code = "store_away"
    template = "The database at {path} is away: {problem}. Nothing was accepted and nothing is lost; the bus goes on by itself when the database is back. Then make the call again."


class StoreFailed(InterlockError):
    code = "store_failed"
    template = "The store at {path} cannot be written: {problem}. Nothing unwritten was acknowledged; free the disk or restore it and start the bus again."
