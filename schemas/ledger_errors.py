"""What can be wrong with a ledger and with what vouches for it; a part of the tree in `errors.py`."""

from interlock.schemas.error import InterlockError


class NoLedger(InterlockError):
    code = "no_ledger"
    template = "No ledger can be opened at {path}: {problem}. {remedy}"


class LedgerUnreachable(NoLedger):
    """It may be there, behind a server that is away: a bus that works with it asks again."""

    code = "ledger_unreachable"
    template = "No ledger can be opened at {path}: the server cannot be reached ({problem}). Start it, or correct INTERLOCK_LEDGER."


class LedgerExists(InterlockError):
    code = "ledger_exists"
    template = "A ledger already exists at {path}. It was left as it is; open it, or give another path."


class LedgerInUse(InterlockError):
    code = "ledger_in_use"
    template = "A bus works with the ledger at {path}. Nothing was done; stop that bus first, or name another ledger."


class LedgerDamaged(InterlockError):
    code = "ledger_damaged"
    template = "The ledger is not intact: entry {seq}: {problem}. Stop the bus and keep the file; restore the last good backup."


class CheckpointDamaged(InterlockError):
    """`seq`: the first entry that the checkpoints before it do not vouch for."""

    code = "checkpoint_damaged"
    template = "A checkpoint is not intact: the note in line {line} of {place}: {problem}. From entry {seq} on nothing vouches for the ledger but later checkpoints; keep both files and find out who wrote it."


class NoCheckpoints(InterlockError):
    code = "no_checkpoints"
    template = "The checkpoints at {place} cannot be read: {problem}. Nothing was verified; give a file of checkpoints or a URL that answers with one, and the public key in NAME+ID+KEY form."


class NoProof(InterlockError):
    code = "no_proof"
    template = "Entry {seq} cannot be proved: {problem}. A checkpoint follows at most ten seconds after an entry on a running bus; `interlock audit verify` says what is signed."


class Erased(InterlockError):
    code = "erased"
    template = "What {task} said was erased for good. That it happened and how it ended stays on record: `interlock show {task}`. New work needs an id of its own."


class ResultErased(InterlockError):
    """A write under a key that was done by a task which has been erased."""

    code = "result_erased"
    template = "Tool {tool} did this before, under its key, for {task}: it is done and is not done again. What it answered was erased with that task; where it is needed, read it from the system behind the tool."


class TaskLive(InterlockError):
    code = "task_live"
    template = "{task} is live and needs what it has said. Nothing was erased; kill it first, as `interlock erase` does."


class RetentionTooShort(InterlockError):
    code = "retention_too_short"
    template = "What model calls said is kept for {least} days at least, and {days} were asked for. Nothing was pruned; `interlock erase TASK` erases one task at once."


class StorePaused(InterlockError):
    """A commit failed for a reason that may pass; nothing of it was written, as far as can be seen. The same is to be committed again."""

    code = "store_paused"
    template = "The store at {path} cannot be written now: {problem}. Nothing is lost; it goes on by itself once that has passed."


class StaleEpoch(InterlockError):
    code = "stale_epoch"
    template = "Epoch {epoch} has been followed by {current}; this orchestrator is no longer the one and exits."
