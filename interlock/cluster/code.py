"""An app's code on its way to replicas and runners, and the few settings that every actor needs.

Code travels as a target that each process loads for itself (`module:app`, `file.py:app`), or, for an app made in a driver script, as
a pickle by value. The trusted base hands it on and never opens it.
"""

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.cloudpickle as cloudpickle

from interlock.app import App
from interlock.loading import load_app


@dataclass(frozen=True, slots=True)
class Code:
    """Either `target` or `pickled`; `path` are the folders that the app's modules are found in."""

    target: str = ""
    pickled: bytes = field(default=b"", repr=False)
    path: tuple[str, ...] = ()

    def load(self) -> App:
        """The app. Runs user code: only in replicas and runners."""
        for folder in self.path:
            if folder not in sys.path:
                sys.path.append(folder)
        if self.target:
            return load_app(self.target)
        app = cloudpickle.loads(self.pickled)
        assert isinstance(app, App)
        return app


def code_of(app: App) -> Code:
    """An app that was made in this process. The user's own modules go by value: a worker may not find them."""
    own = [module for module in _modules(app) if not _is_installed(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return Code(pickled=cloudpickle.dumps(app), path=_folders())
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def code_at(target: str) -> Code:
    """An app that each process loads from `target`; a file is named by its whole path."""
    place, colon, name = target.rpartition(":")
    if place.endswith(".py"):
        target = f"{Path(place).absolute()}{colon}{name}"
    return Code(target=target, path=_folders())


def _folders() -> tuple[str, ...]:
    return tuple(str(Path(folder).absolute()) for folder in sys.path if Path(folder or ".").is_dir() and "site-packages" not in folder)


def _modules(app: App) -> list[types.ModuleType]:
    functions: list[Any] = [flow.definition.function for flow in app.workflows.values()]
    functions += [agent.function for agent in app.agents.values() if agent.function is not None]
    functions += [tool.function for agent in app.agents.values() for tool in agent.tools]
    functions += [cls for agent in app.agents.values() for cls in (*agent.accepts, *agent.returns)]
    names = dict.fromkeys(function.__module__ for function in functions)
    return [sys.modules[name] for name in names if name in sys.modules and name != "__main__"]


def _is_installed(module: types.ModuleType) -> bool:
    """Whether every process of this Python finds the module: it is Interlock's own or lies where packages are installed."""
    file = getattr(module, "__file__", None) or ""
    return module.__name__.split(".")[0] == "interlock" or "site-packages" in file
