"""What an agent's replica needs: declared well or refused, recorded with the app, and told in words where no node has it."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from interlock import App, Message, Needs
from interlock.cluster.code import Code
from interlock.cluster.room import lacking
from interlock.cluster.store import CODE_FILE, read_code, write_code
from interlock.hosts import needs_of
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.specs import AppSpec


class Ask(Message, contract="needs.ask", version="1.0.0"):
    n: int


class Reply(Message, contract="needs.reply", version="1.0.0"):
    n: int


NEEDS = Needs(num_cpus=2, memory="4GB", custom={"licence": 1}, runtime_env={"env_vars": {"MODE": "fast"}})


def an_app() -> App:
    app = App("needy")
    app.agent("solver", version="1.0.0", instructions="Solve it.", accepts=Ask, returns=Reply, needs=NEEDS)
    app.agent("clerk", version="1.0.0", instructions="Write it down.", accepts=Reply, returns=Ask)
    return app


def test_needs_travel_with_the_app_and_its_code(tmp_path: Path) -> None:
    app = an_app()
    assert NEEDS.amounts == {"CPU": 2, "memory": 4e9, "licence": 1}
    assert needs_of(app) == {"solver": NEEDS}
    assert {agent.name: agent.needs for agent in AppSpec.from_wire(decode(encode(app.spec().to_wire()))).agents} == {
        "solver": NEEDS,
        "clerk": Needs(),
    }
    write_code(str(tmp_path), Code("a:b"), {"solver": ["TOKEN"]}, needs_of(app))
    assert read_code(str(tmp_path)) == (Code("a:b"), {"solver": ["TOKEN"]}, {"solver": NEEDS})


def test_what_was_kept_before_there_were_needs_is_read(tmp_path: Path) -> None:
    (tmp_path / CODE_FILE).write_bytes(pickle.dumps((Code("a:b"), {"solver": []})))
    assert read_code(str(tmp_path)) == (Code("a:b"), {"solver": []}, {})
    old = an_app().spec().to_wire()
    old["agents"] = tuple({name: value for name, value in agent.items() if name != "needs"} for agent in old["agents"])
    assert [agent.needs for agent in AppSpec.from_wire(old).agents] == [Needs(), Needs()]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_cpus": -1}, "num_cpus=-1 is no amount"),
        ({"num_gpus": float("nan")}, "num_gpus=nan is no amount"),
        ({"custom": {"licence": "one"}}, "licence='one' is no amount"),
        ({"custom": {"GPU": 1}}, "names what Ray counts itself"),
        ({"memory": "much"}, "memory='much' is no size"),
        ({"runtime_env": {"pip": {1, 2}}}, "its runtime_env is not plain data"),
    ],
)
def test_needs_that_cannot_be_counted_are_refused_where_they_are_declared(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BadDeclaration, match=says):
        Needs(**wrong)


def test_what_a_replica_waits_for_is_said() -> None:
    nodes = [{"CPU": 4.0, "memory": 8e9}, {"CPU": 2.0, "licence": 1.0}]
    free = {"CPU": 3.0, "memory": 8e9, "licence": 0.0}
    assert lacking({"CPU": 8, "memory": 4e9}, nodes, free) == "waits for a node: it needs CPU 8, and the most that any node has is CPU 4"
    assert lacking({"gpu-a": 1}, nodes, free) == "waits for a node: it needs gpu-a 1, and the most that any node has is gpu-a 0"
    assert lacking({"gpu-a": 1}, [], {}) == "waits for a node: it needs gpu-a 1, and the most that any node has is gpu-a 0"
    apart = "waits for a node: it needs CPU 4, licence 1 on one node, and none of 2 has all of it together"
    assert lacking({"CPU": 4, "licence": 1}, nodes, free) == apart
    full = "waits for room: it needs licence 1, and what is left on all nodes is licence 0"
    assert lacking({"CPU": 2, "licence": 1}, nodes, free) == full
    assert lacking({"memory": 4e9}, nodes, free) == "waits for its process: the nodes have room (memory 4.0 GB), and none was made yet"
    assert lacking({}, nodes, free) == "waits for its process: the nodes have room, and none was made yet"
