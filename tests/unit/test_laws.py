"""The laws of the house: who may import whom, where Ray may be, how long things get, what is public.

They read the package that is imported, so they hold for the checkout and for an installed wheel alike.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import interlock

PACKAGE = Path(interlock.__file__).parent
TESTS = Path(__file__).resolve().parents[1]

FACE = "interlock"
MAY_IMPORT = {
    "schemas": {"schemas"},
    "tools": {"schemas", "tools"},
    "orchestrator": {"schemas", "tools", "orchestrator"},
    "actors": {"schemas", "tools", "actors"},
    FACE: {"schemas", "tools", "orchestrator", "actors", FACE},
}
ROOMS = [room for room in MAY_IMPORT if room != FACE]

RAY_EDGES = ["cluster/*.py", "launch.py"]

FILE_LINES = 400
FUNCTION_LINES = 60

PUBLIC = [
    "AgentContext",
    "AgentFailed",
    "App",
    "AsyncBus",
    "Budget",
    "BudgetExceeded",
    "Bus",
    "Conversation",
    "Escalate",
    "Finding",
    "InterlockError",
    "Keyed",
    "LocalBus",
    "Message",
    "Natural",
    "Needs",
    "Never",
    "Outcome",
    "Refused",
    "Task",
    "TaskFailed",
    "ToolContext",
    "ToolFailed",
    "Untrusted",
    "WorkflowContext",
]


def _files() -> Iterator[tuple[str, Path]]:
    """Every module of the package as (path below the package, file); rooms may be links, which rglob does not enter."""
    for room in ROOMS:
        for file in (PACKAGE / room).rglob("*.py"):
            yield f"{room}/{file.relative_to(PACKAGE / room)}", file
    for file in PACKAGE.rglob("*.py"):
        path = str(file.relative_to(PACKAGE))
        if path.split("/")[0] not in [*ROOMS, "examples"]:  # the demo's repository is data, though some of it is Python
            yield path, file


FILES = dict(sorted(_files()))
TREES = {path: ast.parse(file.read_text()) for path, file in FILES.items()}
OUR_TEST_FILES = {str(file.relative_to(TESTS)): file for file in TESTS.rglob("*.py")}


def _room(path: str) -> str:
    first = path.split("/")[0]
    return first if first in ROOMS else FACE


def _module(path: str) -> str:
    return ".".join(["interlock", *path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")]).rstrip(".")


def _is_edge(path: str) -> bool:
    return any(fnmatch(path, edge) for edge in RAY_EDGES)


def _imports(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it; of `from interlock import tools` it is `interlock.tools`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def _room_of_import(name: str) -> str:
    _, _, rest = name.partition(".")
    return rest.split(".")[0] if rest.split(".")[0] in ROOMS else FACE


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_laws_see_the_house() -> None:
    assert {_room(path) for path in FILES} == set(MAY_IMPORT)
    assert len(FILES) > 20


def test_imports_run_one_way() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in TREES.items()
        for name in _imports(tree)
        if name.split(".")[0] == "interlock" and _room_of_import(name) not in MAY_IMPORT[_room(path)]
    ]
    assert wrong == []


def test_imports_are_absolute_and_rooms_have_their_full_name() -> None:
    """A user's own `tools` package would shadow ours on a Ray worker."""
    wrong = [f"{path} imports {name}" for path, tree in TREES.items() for name in _imports(tree) if name.split(".")[0] in ["", *ROOMS]]
    assert wrong == []


def test_ray_is_imported_at_the_edges_only() -> None:
    wrong = [path for path, tree in TREES.items() if not _is_edge(path) and any(name.split(".")[0] == "ray" for name in _imports(tree))]
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_loads_nothing_but_what_it_may(room: str) -> None:
    """As Python really does it, transitively; Ray comes in with no module that is not at an edge."""
    modules = [_module(path) for path in FILES if _room(path) == room and not _is_edge(path)]
    others = [f"interlock.{other}" for other in [*ROOMS, "app", "bus", "cli", "launch"] if other not in MAY_IMPORT[room]]
    _run(
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        f"loaded = sorted({{*{[*others, 'ray']!r}}} & set(sys.modules))\n"
        "assert not loaded, loaded\n"
    )


def test_the_ray_fronts_of_actors_load_no_orchestrator() -> None:
    modules = [_module(path) for path in FILES if _room(path) == "actors"]
    _run(
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "loaded = {'interlock.orchestrator', 'sqlalchemy', 'alembic', 'fastapi'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )


def test_the_face_is_lazy() -> None:
    _run(
        "import sys, interlock\n"
        "loaded = sorted(m for m in sys.modules if m.startswith('interlock.') or m in ('ray', 'pydantic', 'openai'))\n"
        "assert not loaded, loaded\n"
    )


def test_what_is_public_is_pinned() -> None:
    assert sorted(interlock.__all__) == PUBLIC
    assert all(getattr(interlock, name).__doc__ or name == "Untrusted" for name in PUBLIC)
    assert set(PUBLIC) <= set(dir(interlock))


def test_no_file_is_too_long() -> None:
    files = {**FILES, **{f"tests/{path}": file for path, file in OUR_TEST_FILES.items()}}
    lengths = {path: len(file.read_text().splitlines()) for path, file in files.items()}
    assert {path: length for path, length in lengths.items() if length > FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    }
    assert long == {}


def test_every_module_says_why_it_exists() -> None:
    assert [path for path, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


def test_no_module_swallows_everything() -> None:
    """No bare `except:`, no `except Exception: pass`."""
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (
                isinstance(node.type, ast.Name)
                and node.type.id in ("Exception", "BaseException")
                and all(isinstance(step, ast.Pass) for step in node.body)
            )
        )
    ]
    assert wrong == []
