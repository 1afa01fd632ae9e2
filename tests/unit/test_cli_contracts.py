"""`interlock contracts check` and `diff`: files in, a verdict out, no bus anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock.cli import main

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
