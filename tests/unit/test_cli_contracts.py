"""`interlock contracts`: files in, a verdict out, no bus anywhere; and what a bus has registered."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock import App, LocalBus
from interlock.cli import connection, main

OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
NEEDY = {**OPEN, "required": ["a"]}
CIRCLE = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, schema in {"open": OPEN, "needy": NEEDY, "circle": CIRCLE, "any": {}, "wrong": {"type": "strin"}}.items():
        Path(f"{name}.json").write_text(json.dumps(schema))
    Path("text.json").write_text("{")


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, words, input=stdin)


def shown(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("open.json", "--old", "needy.json"), 0, "compatible (backward)\n"),
        (
            ("needy.json", "--old", "open.json"),
            1,
            'incompatible (backward): {} is accepted by old and refused by new: "a" is a required property.',
        ),
        (("needy.json", "--old", "open.json", "--mode", "forward"), 0, "compatible (forward)\n"),
        (("needy.json", "--old", "open.json", "--mode", "none"), 0, "compatible (none)\n"),
        (("circle.json", "--old", "any.json"), 2, "unknown (backward): it could not be proved: $ref at /$defs/a: it refers to itself"),
        (("wrong.json", "--old", "any.json"), 2, "The new schema cannot be compared: at /type:"),
        (("text.json", "--old", "any.json"), 2, "text.json is not JSON"),
        (("absent.json", "--old", "any.json"), 2, "absent.json cannot be read"),
        (
            ("open.json", "--old", "open.json", "--old", "needy.json", "--mode", "forward_transitive"),
            1,
            "incompatible (forward_transitive)",
        ),
    ],
)
def test_a_check_says_yes_no_or_that_it_does_not_know(words: tuple[str, ...], code: int, says: str) -> None:
    found = run("contracts", "check", *words)
    assert found.exit_code == code, found.output
    assert says in found.output


@pytest.mark.usefixtures("files")
def test_a_program_gets_all_of_it() -> None:
    assert shown("contracts", "check", "needy.json", "--old", "open.json") == {
        "verdict": "incompatible",
        "mode": "backward",
        "least_bump": "major",
        "reason": '{} is accepted by old and refused by new: "a" is a required property',
        "refusal": {"message": {}, "accepted_by": "old", "refused_by": "new", "pointer": "/", "problem": '"a" is a required property'},
        "doubts": [],
        "changes": [{"kind": "required_added", "pointer": "/required", "message": '"a" is required'}],
    }


@pytest.mark.usefixtures("files")
def test_what_changed_is_shown_with_the_least_bump() -> None:
    assert run("contracts", "diff", "needy.json", "open.json").output == (
        'CHANGE            WHERE      WHAT\nrequired_removed  /required  "a" is no longer required\nleast bump: minor\n'
    )
    assert run("contracts", "diff", "open.json", "open.json").output == "Nothing changed.\nleast bump: patch\n"
    assert shown("contracts", "diff", "open.json", "needy.json")["least_bump"] == "major"


@pytest.mark.usefixtures("files")
def test_a_schema_may_come_on_the_standard_input() -> None:
    assert run("contracts", "check", "open.json", "--old", "-", stdin=json.dumps(NEEDY)).exit_code == 0


APP = """
from interlock import App, Message, WorkflowContext

app = App("shop")


class Order(Message, contract="shop.order", version="1.0.0"):
    number: int


@app.workflow("echo", version="1.0.0")
async def echo(request: Order, ctx: WorkflowContext) -> Order:
    return request
"""


@pytest.mark.usefixtures("files")
def test_what_is_frozen_does_not_change() -> None:
    Path("shop.py").write_text(APP)
    assert run("contracts", "freeze", "shop.py:app").output == "contracts/shop.order-1.0.0.json is new.\n"
    frozen = Path("contracts/shop.order-1.0.0.json")
    assert json.loads(frozen.read_text())["properties"]["number"]["type"] == "integer"
    assert run("contracts", "freeze", "shop.py:app").output == "Nothing is new in contracts.\n"
    assert shown("contracts", "freeze", "shop.py:app", "--to", "else") == {"written": ["else/shop.order-1.0.0.json"]}
    Path("contracts/shop.order-1.0.1.json").write_text("{}")
    for other in ("{}", "no JSON"):
        frozen.write_text(other)
        refused = run("contracts", "freeze", "shop.py:app")
        assert refused.exit_code == 1
        assert "shop.order 1.0.0 is frozen in contracts/shop.order-1.0.0.json with other content" in refused.stderr
        assert "declare it as 1.0.2 or higher" in refused.stderr


@pytest.fixture(scope="module")
def bus() -> Iterator[LocalBus]:
    with LocalBus(App("empty")) as running, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "connect", lambda address, name: nullcontext(running))
        yield running


@pytest.mark.usefixtures("files", "bus")
def test_a_contract_is_registered_listed_and_shown() -> None:
    words = ("contracts", "register", "needy.json", "--contract", "shop.needy", "--version")
    assert run(*words, "1.0.0").output == "shop.needy 1.0.0 is registered.\n"
    assert run(*words, "1.0.0").output == "shop.needy 1.0.0 was registered already.\n"
    assert shown(*words, "1.0.1") == {"contract": "shop.needy", "version": "1.0.1", "new": True}
    listed = run("contracts", "list").output.splitlines()
    assert listed[0].split() == ["CONTRACT", "VERSIONS"]
    assert ["shop.needy", "1.0.0", "1.0.1"] in [line.split() for line in listed]
    assert shown("contracts", "list")["shop.needy"] == ["1.0.0", "1.0.1"]
    assert json.loads(run("contracts", "show", "shop.needy").output) == NEEDY
    assert json.loads(run("contracts", "show", "shop.needy", "1.0.0").output) == NEEDY
    unknown = run("contracts", "show", "shop.needy", "3.0.0")
    assert (unknown.exit_code, "Known: shop.needy 1.0.0, shop.needy 1.0.1" in unknown.stderr) == (2, True)


@pytest.mark.usefixtures("files", "bus")
def test_a_version_that_breaks_or_is_too_small_is_refused_with_the_message() -> None:
    assert run("contracts", "register", "needy.json", "--contract", "shop.two", "--version", "1.0.0").exit_code == 0
    small = run("contracts", "register", "open.json", "--contract", "shop.two", "--version", "1.0.1")
    assert (small.exit_code, "{} is accepted by 1.0.1 and refused by 1.0.0" in small.stderr) == (1, True)
    assert run("contracts", "register", "open.json", "--contract", "shop.two", "--version", "1.1.0").exit_code == 0
    breaks = run("contracts", "register", "needy.json", "--contract", "shop.two", "--version", "1.2.0")
    assert (breaks.exit_code, "{} is accepted by 1.1.0 and refused by 1.2.0" in breaks.stderr) == (1, True)
    assert "or register it as 2.0.0" in breaks.stderr


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _at(document: Any, reference: str) -> Any:
    for key in reference.removeprefix("#/").split("/"):
        document = document[key]
    return document


TEAM = """
from interlock import AgentContext, App, Message, WorkflowContext

app = App("shop")


class Line(Message):
    text: str


class Order(Message, contract="shop.order", version="1.0.0"):
    lines: list[Line]


class Note(Message, contract="shop.note", version="1.2.0"):
    text: str


@app.agent("clerk", version="1.0.0")
async def clerk(request: Order, ctx: AgentContext) -> Note:
    return Note(text="")


@app.workflow("echo", version="1.0.0", receives=Note)
async def echo(request: Order, ctx: WorkflowContext) -> Order:
    return request
"""


@pytest.mark.usefixtures("files")
def test_an_app_is_an_asyncapi_document() -> None:
    Path("team.py").write_text(TEAM)
    document = json.loads(run("contracts", "asyncapi", "team.py:app").output)
    assert (document["asyncapi"], document["info"]["title"]) == ("3.0.0", "shop")
    assert set(document["channels"]) == {"shop.order", "shop.note", "agent.clerk.replies", "workflow.echo.replies"}
    assert set(document["operations"]) == {"agent.clerk.shop.order", "workflow.echo.shop.order", "workflow.echo.running.shop.note"}
    assert document["operations"]["agent.clerk.shop.order"]["reply"] == {"channel": {"$ref": "#/channels/agent.clerk.replies"}}
    assert set(document["components"]["messages"]) == {"shop.order-1.0.0", "shop.note-1.2.0"}
    references = list(_references(document))
    assert "#/components/schemas/shop.order-1.0.0/$defs/Line" in references
    assert all(_at(document, reference) for reference in references)
