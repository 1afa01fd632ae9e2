"""Loading an app: found where the user says, and whatever is wrong said in one sentence that leads to it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.loading import load_app
from interlock.schemas.errors import BadDeclaration

GOOD = 'from interlock import App\n\napp = App("shop")\nname = "shop"\n'


@pytest.fixture(autouse=True)
def _imports_are_put_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("interlock_app_", "shopx")):
            del sys.modules[name]


def _refusal(target: str) -> str:
    with pytest.raises(BadDeclaration) as caught:
        load_app(target)
    return str(caught.value)


def test_a_file_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    app = load_app("app.py:app")
    assert app.name == "shop"
    assert load_app(f"{tmp_path}/app.py:app") is app


def test_a_file_finds_its_neighbours_and_resolves_its_own_hints(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "shopx_names.py").write_text('NAME = "shop"\n')
    (folder / "app.py").write_text(
        "from __future__ import annotations\n"
        "from interlock import App, Message, WorkflowContext\n"
        "from shopx_names import NAME\n"
        'class Request(Message, contract="a.request", version="1.0.0"):\n    n: int\n'
        "app = App(NAME)\n"
        '@app.workflow("w", version="1.0.0")\n'
        "async def w(request: Request, ctx: WorkflowContext) -> Request:\n    return request\n"
    )
    assert set(load_app("deep/app.py:app").workflows) == {"w"}


def test_a_dotted_module_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "shopx").mkdir()
    (tmp_path / "shopx" / "billing.py").write_text(GOOD)
    assert load_app("shopx.billing:app").name == "shop"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "app.py",
            "app 'app.py': it does not name a module and an app in it. "
            "Write MODULE:APP, as in shop.billing:app or examples/invoicing/app.py:app.",
        ),
        (
            "none.py:app",
            "app file none.py: there is no such file. Write MODULE:APP, as in shop.billing:app or examples/invoicing/app.py:app.",
        ),
        (
            "shopx_none.billing:app",
            "module shopx_none.billing: there is no module shopx_none. Run from the folder that holds it, install it, "
            "or give the path of its file, as in examples/invoicing/app.py:app.",
        ),
        ("good.py:apple", "app 'good.py:apple': good.py has no apple. Apps in it: app."),
        ("good.py:name", "app 'good.py:name': name is no App but of type str. Apps in it: app."),
        ("empty.py:app", "app 'empty.py:app': empty.py has no app. Write app = App(\"...\") there."),
    ],
)
def test_what_is_not_there(target: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "empty.py").write_text("")
    assert _refusal(target) == sentence


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\ny = zzz\n", "line 2: NameError: name 'zzz' is not defined"),
        ("x = 1\n\ndef f(:\n", "line 3: SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("from interlock import Message\n\nclass Odd(Message):\n    x: object()\n", "line 3: "),
        ("import shopx_missing\n", "line 1: ModuleNotFoundError: No module named 'shopx_missing'"),
        ('from interlock import App\n\napp = App("a")\napp.agent("models", version="1.0.0")\n', "line 4: BadDeclaration: agent models: "),
    ],
)
def test_a_fault_in_the_users_file_names_its_line(code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(code)
    for _ in range(2):
        said = _refusal("app.py:app")
        assert said.startswith("app app.py: importing it failed at ")
        assert f"{tmp_path / 'app.py'}, {says}" in said
        assert said.endswith(". Correct it there and try again.")
    (tmp_path / "shopx_broken.py").write_text(code)
    assert f"{tmp_path / 'shopx_broken.py'}, {says}" in _refusal("shopx_broken:app")
