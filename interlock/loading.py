"""Loading a user's app from where he says it is: `shop.billing:app` or `examples/invoicing/app.py:app`.

Whatever is wrong is said in one sentence, with the line of the user's own file that it comes from. The same file is loaded once in a
process, under a name of its own, so it shadows no module and is shadowed by none.
"""

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType

from interlock.app import App
from interlock.schemas.errors import BadDeclaration

_HOW = "Write MODULE:APP, as in shop.billing:app or examples/invoicing/app.py:app."
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def load_app(target: str) -> App:
    """The app that `target` names: a dotted module or the path of a `.py` file, a colon, an attribute. Raises `BadDeclaration`."""
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise BadDeclaration(what=f"app {target!r}", problem="it does not name a module and an app in it", remedy=_HOW)
    module = _from_file(where) if where.endswith(".py") else _from_module(where)
    found = getattr(module, name, None)
    if isinstance(found, App):
        return found
    problem = f"{where} has no {name}" if not hasattr(module, name) else f"{name} is no App but of type {type(found).__name__}"
    apps = sorted(attribute for attribute, value in vars(module).items() if isinstance(value, App))
    remedy = f"Apps in it: {', '.join(apps)}." if apps else f'Write {name} = App("...") there.'
    raise BadDeclaration(what=f"app {target!r}", problem=problem, remedy=remedy)


def _from_file(where: str) -> ModuleType:
    path = Path(where).expanduser().resolve()
    if not path.is_file():
        raise BadDeclaration(what=f"app file {where}", problem="there is no such file", remedy=_HOW)
    name = f"interlock_app_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def run() -> ModuleType:
        sys.modules[name] = module  # classes look up the module that they are in while it runs
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return _guarded(run, where, path.parent)


def _from_module(where: str) -> ModuleType:
    try:
        return _guarded(lambda: importlib.import_module(where), where, Path.cwd())
    except ModuleNotFoundError as error:
        remedy = "Run from the folder that holds it, install it, or give the path of its file, as in examples/invoicing/app.py:app."
        raise BadDeclaration(what=f"module {where}", problem=f"there is no module {error.name}", remedy=remedy) from None


def _guarded(load: Callable[[], ModuleType], where: str, folder: Path) -> ModuleType:
    """Run the user's code, with his own modules beside it in reach; a module that is itself missing stays a `ModuleNotFoundError`."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return load()
    except (Exception, SystemExit) as error:  # it is the user's code that runs: whatever it raises is his to read
        if isinstance(error, ModuleNotFoundError) and f"{where}.".startswith(f"{error.name}."):
            raise
        problem = f"importing it failed at {_line(error)}: {type(error).__name__}: {error}".rstrip(" .:")
        raise BadDeclaration(what=f"app {where}", problem=problem, remedy="Correct it there and try again.") from error


def _line(error: BaseException) -> str:
    """`FILE, line N` of the last line of the user's own that ran, or that could not be read."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _ours(frame)]
    own = [place for place in frames if not place[0].startswith(_LIBRARIES)] or frames
    return f"{own[-1][0]}, line {own[-1][1]}" if own else "an unknown line"


def _ours(frame: FrameType) -> bool:
    """Whether a frame is of the import machinery or of Interlock, and tells the user nothing."""
    return str(frame.f_globals.get("__name__", "")).startswith(("importlib.", "interlock."))
