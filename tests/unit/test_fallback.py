"""Fallback models: the next one is asked only where a model finally gave no answer, and whatever crashes, the same ones are asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Budget, Message, WorkflowContext
from interlock.actors.fallback import Models
from interlock.schemas.entries import ModelCalled
from interlock.schemas.errors import BadDeclaration, BudgetExceeded, ModelFailed, ModelRefused
from interlock.testing import virtual_time
from interlock.testing.simulation import Simulation, simulate

NAMES = ("a", "b", "c")


def failed(model: str) -> ModelFailed:
    return ModelFailed(model=model, endpoint="e", attempts=4, problem=f"{model} is down")


class Asked:
    """Calls, of which those to models that are `down` fail."""

    def __init__(self) -> None:
        self.down: frozenset[str] = frozenset()
        self.calls: list[tuple[str, str]] = []

    async def __call__(self, model: str, request: dict[str, Any], instead_of: str) -> dict[str, Any]:
        assert request == {"model": model, "messages": []}
        self.calls.append((model, instead_of))
        if model in self.down:
            raise failed(model)
        return {"by": model}


@given(st.lists(st.frozensets(st.sampled_from(NAMES)), max_size=8))
def test_each_is_asked_once_at_most_in_order_from_who_answered_last(downs: list[frozenset[str]]) -> None:
    async def main() -> None:
        models, asked, first = Models(NAMES[1:]), Asked(), 0
        for asked.down in downs:
            asked.calls.clear()
            order = [NAMES[(first + turn) % 3] for turn in range(3)]
            answering = next((name for name in order if name not in asked.down), None)
            if answering is None:
                with pytest.raises(ModelFailed) as error:
                    await models.complete("a", {"messages": []}, asked)
                assert all(f"{name} is down" in str(error.value) for name in NAMES)
            else:
                assert await models.complete("a", {"messages": []}, asked) == {"by": answering}
                first = NAMES.index(answering)
            made = order[: order.index(answering) + 1 if answering else 3]
            assert asked.calls == list(zip(made, ["", *made], strict=False))

    virtual_time.run(main())


@pytest.mark.parametrize(
    "error",
    [ModelRefused(model="a", endpoint="e", status=404, problem="no"), BudgetExceeded(limit="usd", allowed=1, used=1, reserved=0, asked=1)],
)
def test_what_is_refused_is_asked_of_no_other_model(error: Exception) -> None:
    asked: list[str] = []

    async def call(model: str, request: dict[str, Any], instead_of: str) -> dict[str, Any]:
        asked.append(model)
        raise error

    with pytest.raises(type(error)):
        virtual_time.run(Models(("b",)).complete("a", {}, call))
    assert asked == ["a"]


@pytest.mark.parametrize("fallback", ["b", ("b", "b"), ("a",), ("",), (1,)])
def test_what_names_no_other_models_is_refused_where_it_is_declared(fallback: Any) -> None:
    with pytest.raises(BadDeclaration, match="no list of other models"):
        App("x").agent("w", version="1.0.0", instructions="Do.", accepts=Go, returns=Done, model="a", fallback=fallback)


class Go(Message, contract="fallback.go", version="1.0.0"):
    pass


class Done(Message, contract="fallback.done", version="1.0.0"):
    by: str


app = App("fallback")
app.agent("worker", version="1.0.0", instructions="Do it.", accepts=Go, returns=Done, model="a", fallback=("b", "c"), conversation=None)


@app.workflow("flow", version="1.0.0", budget=Budget(tokens=100_000, seconds=None))
async def flow(request: Go, ctx: WorkflowContext) -> Done:
    return await ctx.ask(request, returns=Done)


PLAYBOOK = {
    "rules": [
        {"model": "^a$", "fault": {"kind": "status", "status": 503}},
        {"model": "^b$", "turns": 0, "answer": {"text": "not JSON"}},
        {"model": "^b$", "turns": 1, "answer": {"json": {"by": "b"}}},
    ]
}


@pytest.mark.parametrize("crash", [None, "engine", "replica"])
def test_a_dispatch_that_fell_back_does_so_again_after_a_crash_and_calls_nobody_twice(crash: str | None) -> None:
    async def main(sim: Simulation) -> None:
        def strike(entry: Any) -> None:
            if entry.kind == ModelCalled.KIND and entry.open().instead_of == "a" and crash:
                sim.on_entry = None
                sim.crash_engine() if crash == "engine" else sim.crash_peer(next(name for name in sim.peers if name.startswith("worker")))

        sim.on_entry = strike
        task = await sim.bus.submit_json("flow", {}, id="t")
        assert await task.outcome() == "success"
        assert (sim.on_entry is None) == (crash is not None)
        facts = [entry.open() for entry in sim.store.entries(task.id)]
        calls = [(fact.model, fact.instead_of, fact.error is None) for fact in facts if isinstance(fact, ModelCalled)]
        assert calls == [("a", "", False), ("b", "a", True), ("b", "", True)]
        assert sim.script is not None
        assert [body["model"] for body in sim.script.requests] == ["a"] * 4 + ["b"] * 2

    simulate(main, app, PLAYBOOK)
