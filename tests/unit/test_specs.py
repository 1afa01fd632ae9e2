"""Declarations survive as data, exactly: two equal apps have one version, wherever it is computed."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.schemas.canonical import decode, encode
from interlock.schemas.specs import AgentSpec, AppSpec, ContractRef, Escalate, RepeatSpec, ToolSpec, WorkflowSpec, split_ref

NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]\.[0-9]\.[0-9]", fullmatch=True)
REFS = st.builds(ContractRef, st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,6}){0,2}", fullmatch=True), VERSIONS)
SECONDS = st.floats(0.1, 1e6)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object")}, optional={"properties": st.dictionaries(NAMES, st.just({"type": "string"}), max_size=2)}
)
LIMITS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(0, 10**9),
        "steps": st.integers(0, 10**4),
        "seconds": st.decimals(0, 10**6, places=3),
        "usd": st.decimals(0, 10**4, places=6),
        "writes/ledger-db": st.integers(0, 9),
    },
)
REPEATS = st.none() | st.builds(RepeatSpec, st.sampled_from(["keyed", "natural", "never"]), NAMES, st.sampled_from(["task", "bus"]))
TOOLS = st.builds(
    ToolSpec,
    NAMES,
    st.text(st.characters(codec="utf-8"), max_size=20),
    SCHEMAS,
    SCHEMAS,
    st.sampled_from(["read", "write", "irreversible"]),
    system=NAMES,
    repeat=REPEATS,
    timeout=SECONDS,
    max_bytes=st.integers(1, 2**31),
    secrets=st.lists(NAMES, max_size=2).map(tuple),
)
REF_TUPLES = st.lists(REFS, min_size=1, max_size=2).map(tuple)
AGENTS = st.builds(
    AgentSpec,
    NAMES,
    VERSIONS,
    REF_TUPLES,
    REF_TUPLES,
    tools=st.lists(NAMES, max_size=3).map(tuple),
    kind=st.sampled_from(["model", "code"]),
    replicas=st.tuples(st.integers(0, 2), st.integers(2, 9)),
)
WORKFLOWS = st.builds(WorkflowSpec, NAMES, VERSIONS, REFS, REFS, LIMITS, st.builds(Escalate, NAMES, SECONDS), NAMES, NAMES)
APPS = st.builds(
    AppSpec,
    NAMES,
    st.lists(AGENTS, max_size=2).map(tuple),
    st.lists(WORKFLOWS, max_size=2).map(tuple),
    st.lists(TOOLS, max_size=2).map(tuple),
    st.dictionaries(REFS.map(str), SCHEMAS, max_size=2),
)


@given(APPS)
def test_an_app_survives_as_data(app: AppSpec) -> None:
    copy = AppSpec.from_wire(decode(encode(app.to_wire())))
    assert copy == app
    assert copy.version == app.version


@given(REFS)
def test_a_reference_survives_as_text(ref: ContractRef) -> None:
    assert split_ref(str(ref)) == ref


def test_whatever_is_declared_is_part_of_the_version() -> None:
    ref = ContractRef("order.placed", "1.0.0")
    agent = AgentSpec("pricing", "1.0.0", (ref,), (ref,))
    workflow = WorkflowSpec("sale", "1.0.0", ref, ref, limits={"usd": Decimal("0.50")})
    tool = ToolSpec("get_order", "Reads an order.", {}, {}, "read")
    app = AppSpec("billing", (agent,), (workflow,), (tool,), {str(ref): {"type": "object"}})
    variants = [
        replace(app, name="billing2"),
        replace(app, agents=(replace(agent, replicas=(1, 2)),)),
        replace(app, workflows=(replace(workflow, limits={"usd": Decimal("0.51")}),)),
        replace(app, workflows=(replace(workflow, escalate=Escalate("finance")),)),
        replace(app, tools=(replace(tool, effect="write"),)),
        replace(app, schemas={str(ref): {"type": "array"}}),
    ]
    assert len({app.version, *(variant.version for variant in variants)}) == 1 + len(variants)
