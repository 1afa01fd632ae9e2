"""One model call, from the request to its full record: bound → price → reserve → try → settle → record.

Nothing is sent that is not reserved, and what may have been done is charged: a try that the endpoint may have worked on although no
answer came settles its reservation in full, and the next try holds another. A call counts as one step however many tries it took.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from interlock.actors.models.bound import Bounded, bounded
from interlock.actors.models.bounds import Declarations
from interlock.actors.models.breakers import Breakers
from interlock.actors.models.learned import Learned
from interlock.actors.models.prices import Price, Prices
from interlock.actors.models.rates import Rates, said
from interlock.actors.models.wire import Answer, Wire, WireFailed
from interlock.schemas import spans
from interlock.schemas.breaker import Broken
from interlock.schemas.budget import INPUT, LEARNED, OF_MODELS, OUTPUT, STEPS, TOKENS, USD, Amount
from interlock.schemas.canonical import Fragment, encode
from interlock.schemas.errors import CallCancelled, InterlockError, ModelFailed, ModelRefused, UnknownPrice
from interlock.schemas.frames import CallEnded, CallModel
from interlock.schemas.ports import Budgets, Reservation

TRIES = 4
_LEAST_OUTPUT = 16  # fewer tokens than this make no useful answer
_ASKS_TO_WAIT = (429, 503)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0

_tracer = trace.get_tracer("interlock.models")
_propagator = TraceContextTextMapPropagator()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every call at a gateway uses."""

    budgets: Budgets
    wire: Wire
    prices: Prices
    rng: random.Random
    sleep: Callable[[float], Coroutine[Any, Any, None]]
    breakers: Breakers
    incarnation: str = ""
    learned: Learned = field(default_factory=Learned)
    rates: Rates = field(default_factory=Rates)
    bounds: Declarations = field(default_factory=Declarations)


class _Held(NamedTuple):
    """A reservation that is not settled yet: the most tokens in, the most out, and the steps that it counts as."""

    id: str
    input: int
    output: int
    steps: int


class Call:
    """One `CallModel` and what becomes of it."""

    def __init__(self, frame: CallModel, desk: Desk) -> None:
        self.frame = frame
        self._desk = desk
        self._endpoint = desk.wire.endpoint
        self._request: dict[str, Any] | None = None
        self._price: Price | None = None
        self._held: _Held | None = None
        self._holds = 0
        self._tries = 0
        self._turn = ""  # the try that waits for its turn, or has it
        self._sent = False  # whether that one was sent
        self._input = self._output = self._unreported = 0
        self._usd = Decimal(0)
        self._exceeded: dict[str, Any] = {}
        self._flight: asyncio.Future[Any] | None = None
        self._cancelled = False

    async def run(self) -> CallEnded:
        """Make the call; its record, whether it came to an answer or not."""
        context = _propagator.extract({"traceparent": self.frame.traceparent})
        facts = {
            spans.OPERATION: "chat",
            spans.MODEL_ASKED: self.frame.model,
            spans.TASK_ID: self.frame.task,
            spans.EFFECT: self.frame.effect,
        }
        name = spans.CHAT.format(model=self.frame.model)
        with _tracer.start_as_current_span(
            name, context, trace.SpanKind.CLIENT, facts, record_exception=False, set_status_on_exception=False
        ) as span:
            start = asyncio.get_running_loop().time()
            answer, error = await self._outcome()
            latency = (asyncio.get_running_loop().time() - start) * 1000
            record = self._record(answer, error, latency)
            span.set_attributes(
                {
                    spans.MODEL_REPORTED: record["model_reported"],
                    spans.INPUT_TOKENS: self._input,
                    spans.OUTPUT_TOKENS: self._output,
                }
            )
            if error is not None:
                span.set_attribute(spans.ERROR_TYPE, error.code)
                span.set_status(trace.StatusCode.ERROR)
        return ended(self.frame, error is None, record)

    def cancel(self) -> None:
        """Stop it at the next moment; `run` then settles, and returns a record that says so."""
        self._cancelled = True
        if self._flight is not None:
            self._flight.cancel()

    async def _outcome(self) -> tuple[Answer | None, InterlockError | None]:
        try:
            return await self._answer(), None
        except InterlockError as error:
            if self._held is not None:
                await self._settle(0, 0)
            if self._turn and not self._sent:
                await self._desk.budgets.leave(self._lane, self._turn)
            return None, error

    async def _answer(self) -> Answer:
        asked = await self._bounded()
        self._request = asked.request
        self._price = await self._known_price()
        deadline = asyncio.get_running_loop().time() + self._endpoint.patience
        while True:
            if self._tries and self._price is None:
                await self._known_price()  # money may have been limited meanwhile
            self._refuse_if(self._desk.breakers.broken(self.frame.model))
            await self._await_turn(asked, deadline)
            self._held = held = self._held or await self._reserve(asked)
            self._request = {**asked.request, **self._endpoint.capped(held.output)}
            try:
                answer = await self._try(self._request, held, deadline)
            except WireFailed as failed:
                self._desk.breakers.failed(self.frame.model, failed)
                await self._turn_over(failed)
                await self._wait(failed, deadline)
            else:
                self._desk.breakers.answered(self.frame.model)
                if answer.usage is not None:
                    await self._desk.budgets.came_to(self._lane, self._turn, sum(answer.usage[:2]))
                if answer.usage is not None and answer.usage[1] > held.output:
                    await self._desk.budgets.overran(*self._way, answer.usage[1], held.output)
                if answer.usage is not None:
                    self._desk.learned.note(self.frame.model, asked.size, answer.usage[0])
                    await self._compare(held, *answer.usage[:2])
                await self._settle(*(answer.usage or (held.input, held.output)), reported=answer.usage is not None)
                return answer

    async def _bounded(self) -> Bounded:
        """The request and the most that it may be: what the endpoint counts where it is asked, else a declared bound, else bytes."""
        declared = self._desk.bounds.of(self.frame.model)
        asked = bounded(self.frame.model, self.frame.request, declared)
        if declared.count:
            counted = await self._fly(self._desk.wire.counted(declared.count, asked.request))
            if counted is not None:
                return asked._replace(input=counted + asked.parts)  # a counter may not know what a picture becomes
        if self.frame.estimate == LEARNED:
            most = self._desk.learned.bound(self.frame.model, asked.size)
            return asked._replace(input=asked.input - asked.size + most)
        return asked

    @property
    def _way(self) -> tuple[str, str]:
        return self._endpoint.shown, self.frame.model

    @property
    def _lane(self) -> str:
        return f"{self.frame.model} at {self._endpoint.shown}"

    async def _await_turn(self, asked: Bounded, deadline: float) -> None:
        """Wait until the model's rate, which all tasks share, has room for one more try; nothing is held for the call meanwhile but what
        an earlier try left."""
        rate = self._desk.rates.of(self.frame.model)
        turn = self._turn = f"{self.frame.effect}#{self.frame.number}@{self._desk.incarnation}/{self._tries}"
        self._sent = False
        while wait := await self._desk.budgets.turn(self._lane, turn, self.frame.task, asked.input + asked.cap, rate):
            if asyncio.get_running_loop().time() + wait >= deadline:
                raise ModelFailed(
                    model=self.frame.model,
                    endpoint=self._endpoint.shown,
                    attempts=self._tries,
                    problem=f"{said(rate, wait)}, and there was no room for this call within {self._endpoint.patience:g} s",
                )
            await self._fly(self._desk.sleep(wait))

    async def _turn_over(self, failed: WireFailed) -> None:
        """Tell all tasks what this try has come to know."""
        if failed.wait and failed.status in _ASKS_TO_WAIT:
            await self._desk.budgets.shut(self._lane, failed.wait)
        if not failed.maybe_done:
            await self._desk.budgets.came_to(self._lane, self._turn, 0)

    def _clear_to_send(self, deadline: float) -> float:
        """The last look before a try is sent: the seconds it may take. Only who is really sent is the one that tries a broken model."""
        left = deadline - asyncio.get_running_loop().time()
        if self._cancelled:
            raise CallCancelled(model=self.frame.model)
        if left <= 0:
            problem = f"the bus was not ready to send it within {self._endpoint.patience:g} s"
            raise ModelFailed(model=self.frame.model, endpoint=self._endpoint.shown, attempts=self._tries, problem=problem)
        self._refuse_if(self._desk.breakers.stops(self.frame.model))
        return left

    def _refuse_if(self, broken: Broken | None) -> None:
        if broken is not None:
            raise ModelFailed(model=self.frame.model, endpoint=self._endpoint.shown, attempts=self._tries, problem=str(broken))

    async def _compare(self, held: _Held, input: int, output: int) -> None:
        """Note what the endpoint reports above what was held. Where anything that models use is limited, the limits rest on such bounds."""
        both = {INPUT: (held.input, input), OUTPUT: (held.output, output)}
        over = {meter: {"reserved": most, "reported": used} for meter, (most, used) in both.items() if used > most}
        if over:
            limited = await self._desk.budgets.limited(self.frame.task)
            soft = self.frame.estimate == LEARNED and OUTPUT not in over
            self._exceeded = {"meters": over, "stops": not soft and any(meter in limited for meter in OF_MODELS)}

    async def _known_price(self) -> Price | None:
        price = self._desk.prices.of(self.frame.model)
        if price is None and USD in await self._desk.budgets.limited(self.frame.task):
            raise UnknownPrice(model=self.frame.model)
        return price

    async def _reserve(self, asked: Bounded) -> _Held:
        """Hold the worst case. Only the first reservation of a call counts as a step."""
        self._holds += 1
        number = f"{self.frame.effect}#{self.frame.number}" + (f"@{self._desk.incarnation}" if self._desk.incarnation else "")
        id = number if self._holds == 1 else f"{number}/{self._holds}"
        steps = 1 if self._holds == 1 else 0
        base: dict[str, Amount] = {INPUT: asked.input, TOKENS: asked.input, STEPS: steps}
        unit: dict[str, Amount] = {OUTPUT: 1, TOKENS: 1}
        if self._price is not None:
            base[USD], unit[USD] = asked.input * self._price.worst_input(), self._price.worst_output()
        reservation = Reservation(id, self.frame.task, base, unit, asked.cap, min(asked.cap, _LEAST_OUTPUT), self._way)
        [grant] = await self._desk.budgets.reserve([reservation])
        if grant.error is not None:
            raise grant.error
        return _Held(id, asked.input, grant.units, steps)

    async def _try(self, request: dict[str, Any], held: _Held, deadline: float) -> Answer:
        """One try; what may have been done without an answer is settled in full before the failure goes on."""
        left = self._clear_to_send(deadline)
        self._tries, self._sent = self._tries + 1, True
        try:
            return await self._fly(self._desk.wire.call(request, min(self._endpoint.timeout, left)))
        except CallCancelled:
            await self._settle(held.input, held.output, reported=False)
            raise
        except WireFailed as failed:
            if failed.maybe_done:
                await self._settle(held.input, held.output, reported=False)
            raise

    async def _wait(self, failed: WireFailed, deadline: float) -> None:
        """Wait before the next try, or raise what the call has come to if there is none."""
        if not failed.again:
            raise ModelRefused(model=self.frame.model, endpoint=self._endpoint.shown, status=failed.status, problem=failed.problem)
        backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (self._tries - 1)) * self._desk.rng.uniform(0.5, 1.0)
        wait = max(backoff, failed.wait or 0.0)
        if self._tries == TRIES or asyncio.get_running_loop().time() + wait >= deadline:
            asks = f"; it asks to wait {failed.wait:g} s" if failed.wait else ""
            raise ModelFailed(
                model=self.frame.model, endpoint=self._endpoint.shown, attempts=self._tries, problem=f"{failed.problem}{asks}"
            )
        await self._fly(self._desk.sleep(wait))

    async def _fly(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` so that `cancel` ends it, and never the settlement that follows."""
        flight = asyncio.ensure_future(work)
        self._flight = flight
        if self._cancelled:
            flight.cancel()
        await asyncio.wait({flight})
        self._flight = None
        if flight.cancelled():
            raise CallCancelled(model=self.frame.model)
        return flight.result()

    async def _settle(self, input: int, output: int, cached: int = 0, *, reported: bool = True) -> None:
        held, self._held = self._held, None
        assert held is not None, "only a reservation that is held is settled"
        actual: dict[str, Amount] = {INPUT: input, OUTPUT: output, TOKENS: input + output, STEPS: held.steps}
        if self._price is not None:
            worst = input * self._price.worst_input() + output * self._price.worst_output()
            actual[USD] = usd = self._price.cost(input, output, cached) if reported else worst
            self._usd += usd
        self._input += input
        self._output += output
        self._unreported += 0 if reported else input + output
        await self._desk.budgets.settle(held.id, actual)

    def _record(self, answer: Answer | None, error: InterlockError | None, latency: float) -> dict[str, Any]:
        """The fields of `ModelCalled` from `model` on. `usage.unreported_tokens` are those charged as reserved."""
        reported = answer.body.get("model") if answer is not None else ""
        return {
            "model": self.frame.model,
            "model_reported": reported if isinstance(reported, str) else "",
            "endpoint": self._endpoint.shown,
            "system_hash": _system_hash(self._request),
            "request": self._request,
            "response": Fragment(answer.raw) if answer is not None else None,
            "usage": {
                "input_tokens": self._input,
                "output_tokens": self._output,
                **({"unreported_tokens": self._unreported} if self._unreported else {}),
            },
            "price": None if self._price is None else f"{self._usd:f}",
            "latency_ms": round(latency, 3),
            "tries": self._tries,
            "error": None if error is None else error.to_wire(),
            **({"exceeded": self._exceeded} if self._exceeded else {}),
        }


def ended(frame: CallModel, ok: bool, record: dict[str, Any]) -> CallEnded:
    return CallEnded(frame.effect, frame.number, ok, encode(record), frame.task, frame.dispatch)


def _system_hash(request: dict[str, Any] | None) -> str:
    """SHA-256 of the system prompt as text; empty where there is none."""
    texts = [
        _text(message.get("content")) for message in (request or {}).get("messages", []) if message.get("role") in ("system", "developer")
    ]
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest() if texts else ""


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(str(part.get("text") or "") for part in parts)
