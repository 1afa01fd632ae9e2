"""Posts: messages that come from outside into a running task.

send: known already? → live? → does its workflow receive it? → decode → validate → label → record → deliver. Nothing is promised before
the message is durable; one that is sent again under its id is the same message, also after its task has ended.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.orchestrator.history import happened
from interlock.orchestrator.state import TaskState, said
from interlock.schemas import entries as e
from interlock.schemas.canonical import Fragment, decode, digest
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import InvalidMessage, MessageConflict, NotReceived, Refused, TaskOver, TooManyMessages, UnknownTask
from interlock.schemas.ids import traceparent
from interlock.schemas.registry.versions import parse
from interlock.schemas.registry.ways import fits
from interlock.schemas.specs import ContractRef
from interlock.schemas.times import rfc3339

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

POSTS_AT_MOST = 10_000
"""Messages into one task: each is an event that every replay of it goes through."""


class Post(NamedTuple):
    """What a driver sends into a task: the id is the client's; `version` empty is the one that the workflow declares."""

    task: str
    id: str
    contract: str
    version: str
    data: bytes
    by: str


class Posts:
    """The engine's desk for messages into running tasks."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def send(self, post: Post) -> None:
        """Take a message, durably. Raises `Refused` errors; a refusal to a known task is recorded."""
        engine = self._engine
        await engine.admission.settled(post.task)
        task = engine.task(post.task)
        engine.check_ledger()
        facts = [] if task is not None else [entry.open() for entry in engine.store.entries(post.task)]
        if task is None and not any(isinstance(fact, e.TaskAccepted) for fact in facts):
            raise UnknownTask(task=post.task)
        try:
            value = _value(post)
            if not self._known(post, value, _posts(facts) if task is None else task.posts):
                self._take(post, value, _live(post, task, facts))
        except Refused as error:
            engine.record(task, e.PostRefused(post.id, post.contract, error.to_wire(), post.by), task_id=post.task)
            await engine.durable()
            raise
        await engine.durable()

    def _known(self, post: Post, value: Any, posts: dict[str, str]) -> bool:
        """Whether this message came before; `MessageConflict` where it said something else then."""
        before = posts.get(post.id)
        if before is not None and before != digest([post.contract, value]):
            raise MessageConflict(message=post.id, task=post.task)
        return before is not None

    def _take(self, post: Post, value: Any, task: TaskState) -> None:
        engine = self._engine
        contract = self._contract(post, task)
        engine.catalog.validate(contract.name, contract.version, value)
        if len(task.posts) >= POSTS_AT_MOST:
            raise TooManyMessages(task=task.id, bound=POSTS_AT_MOST)
        label = engine.label_of(contract.name, contract.version, value)
        envelope = Envelope(
            id=post.id,
            source=f"/principals/{post.by}",
            contract=contract,
            subject=task.id,
            time=rfc3339(engine.clock.now()),
            data=post.data,
            traceparent=traceparent(task.id),
            correlationid=post.id,
            causationid=task.id,
            label=label.encode(),
            deadline=engine.deadline_of(task),
        )
        self._record(task, e.MessagePosted(post.id, str(contract), post.by, label.encode(), Fragment(envelope.encode())))

    def _contract(self, post: Post, task: TaskState) -> ContractRef:
        """The contract and version that is sent. Raises `UnknownContract` or `NotReceived`."""
        engine = self._engine
        declared = engine.router.receives(task.type)
        own = [ref for ref in declared if ref.name == post.contract]
        version = post.version or (max(own, key=lambda ref: parse(ref.version)).version if own else engine.catalog.latest(post.contract))
        engine.catalog.get(post.contract, version)
        if not any(fits(ref, post.contract, version) for ref in own):
            known = ", ".join(map(str, declared)) or "nothing"
            raise NotReceived(workflow=task.type, contract=post.contract, version=version, known=known)
        return ContractRef(post.contract, version)

    def _record(self, task: TaskState, fact: e.MessagePosted) -> None:
        number = task.events + 1

        def deliver() -> None:
            event = happened(task.id, number, fact, at)
            if event is not None:
                self._engine.workflows.deliver(task, event)

        at = self._engine.record(task, fact, deliver)


def _value(post: Post) -> Any:
    try:
        return decode(post.data)
    except ValueError as error:
        problem = f"it is not JSON ({error})"
        raise InvalidMessage(contract=post.contract, version=post.version, pointer="(root)", problem=problem) from None


def _posts(facts: list[e.Fact]) -> dict[str, str]:
    return {fact.message: said(fact) for fact in facts if isinstance(fact, e.MessagePosted) and not isinstance(fact.envelope, e.Gone)}


def _live(post: Post, task: TaskState | None, facts: list[e.Fact]) -> TaskState:
    """The task where it goes on; `TaskOver` where it has ended."""
    if task is not None and not task.outcome:
        return task
    outcome = task.outcome if task is not None else next(fact.outcome for fact in facts if isinstance(fact, e.TaskEnded))
    raise TaskOver(task=post.task, outcome=outcome, contract=post.contract)


__all__ = ["POSTS_AT_MOST", "Post", "Posts"]
