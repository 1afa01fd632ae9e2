"""A look at workflows before they run: what in their code would answer differently in a replay.

A warning, never a refusal: what is found stands in the workflow's function, or in a function or class of its own module that it uses, and
whether it runs nobody can tell from reading. What `ctx` gives is never found, nor what a tool or an agent does.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from interlock.app import App
from interlock.lint_rules import BUILTINS, advice

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DECLARERS = ("tool", "agent", "workflow")


class Finding(NamedTuple):
    """What stands at a line of a file and cannot be replayed, and what to write instead."""

    file: str
    line: int
    workflow: str
    what: str
    instead: str

    def __str__(self) -> str:
        problem = f"workflow {self.workflow} may come to {self.what}, which a replay does not answer the same way"
        return f"{_shown(self.file)}:{self.line}: {problem}; use {self.instead} instead"


_said: set[tuple[str, int, str]] = set()


def warn(app: App) -> None:
    """Say on stderr what is found in the app's workflows, each line of code once in this process."""
    for finding in findings(app):
        key = finding.file, finding.line, finding.what
        if key not in _said:
            _said.add(key)
            sys.stderr.write(f"warning: {finding}\n")


def findings(app: App) -> list[Finding]:
    """What is found in the app's workflows, by file and line."""
    found: dict[tuple[str, int, str], Finding] = {}
    for workflow in app.workflows.values():
        for one in _in_workflow(workflow.name, workflow.definition.function):
            found.setdefault((one.file, one.line, one.what), one)
    return sorted(found.values())


def _in_workflow(name: str, function: Callable[..., Any]) -> Iterator[Finding]:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    module = _Module.of(code.co_filename) if code is not None else None
    if code is None or module is None:
        return
    for node in module.reached_from(code.co_name, code.co_firstlineno):
        scan = _Scan(module.imports, node)
        for line, what, instead in scan.found:
            yield Finding(code.co_filename, line, name, what, instead)


class _Module:
    """The source of one module: what it imports, and what it defines under which name."""

    _known: dict[str, "_Module | None"] = {}  # noqa: RUF012 - one cache for all

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self.imports = _imports(tree.body)
        self._scopes: dict[Definition, dict[str, Definition]] = {}
        self._enter(tree, {})

    @classmethod
    def of(cls, file: str) -> "_Module | None":
        """The module in this file; none where there is no such source, as of what was typed in."""
        if file not in cls._known:
            try:
                cls._known[file] = cls(ast.parse(Path(file).read_bytes()))
            except (OSError, SyntaxError, ValueError):
                cls._known[file] = None
        return cls._known[file]

    def _enter(self, scope: ast.AST, outer: dict[str, Definition]) -> None:
        """Note for each definition which others it sees by name."""
        inner = [node for node in _statements(scope) if isinstance(node, _DEFINITIONS)]
        seen = {**outer, **{node.name: node for node in inner if not _is_declared(node)}}
        for node in inner:
            self._scopes[node] = seen
            self._enter(node, seen)

    def reached_from(self, name: str, line: int) -> list[Definition]:
        """The definition that begins at this line, and all that it uses."""
        begin = [node for node in self._scopes if node.name == name and line in (node.lineno, _first_line(node))]
        reached: dict[Definition, None] = {}
        while begin:
            node = begin.pop()
            if node in reached:
                continue
            reached[node] = None
            used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
            begin.extend(found for name in sorted(used - _bound(node)) if (found := self._scopes[node].get(name)) is not None)
        return list(reached)


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """The statements of a scope, those within its `if`, `try` and `with` included, but not those of definitions in it."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield node
            if not isinstance(node, _DEFINITIONS):
                yield from _statements(node)


def _is_declared(node: Definition) -> bool:
    """Whether it is declared as a tool, an agent or a workflow: it does not run where its name is used."""
    calls = (part.func if isinstance(part, ast.Call) else part for part in node.decorator_list)
    return any(isinstance(part, ast.Attribute) and part.attr in _DECLARERS for part in calls)


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(part.lineno for part in node.decorator_list)])


def _imports(body: list[ast.stmt]) -> dict[str, str]:
    """What each imported name stands for, as `datetime.datetime`."""
    names: dict[str, str] = {}
    for statement in body:
        for node in ast.walk(statement) if not isinstance(statement, _DEFINITIONS) else ():
            names.update(_imported(node))
    return names


def _imported(node: ast.AST) -> dict[str, str]:
    if isinstance(node, ast.Import):
        whole = [(part.asname, part.name) if part.asname else (part.name.partition(".")[0],) * 2 for part in node.names]
        return dict(whole)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {part.asname or part.name: f"{node.module}.{part.name}" for part in node.names}
    return {}


class _Scan(ast.NodeVisitor):
    """What one definition does by itself: `found` are line, what, and what to use instead."""

    def __init__(self, imports: dict[str, str], node: Definition) -> None:
        self.found: list[tuple[int, str, str]] = []
        local: dict[str, str] = {}
        for part in ast.walk(node):
            local.update(_imported(part))
        bound = _bound(node) - local.keys()
        self._names = {name: target for name, target in {**imports, **local}.items() if name not in bound}
        self._builtins = BUILTINS - bound - self._names.keys()
        self._visit_body(node)

    def _visit_body(self, node: Definition) -> None:
        if not isinstance(node, ast.ClassDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_body(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self._look(node.func, called=True, given=bool(node.args or node.keywords))
        if not isinstance(node.func, ast.Name | ast.Attribute):
            self.visit(node.func)
        elif isinstance(node.func, ast.Attribute):
            self._visit_below(node.func)
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._look(node, called=False, given=False)
        self._visit_below(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._look(node, called=False, given=False)

    def _visit_below(self, node: ast.Attribute) -> None:
        below: ast.expr = node
        while isinstance(below, ast.Attribute):
            below = below.value
        if not isinstance(below, ast.Name):
            self.visit(below)

    def _look(self, node: ast.expr, *, called: bool, given: bool) -> None:
        what = self._dotted(node)
        instead = advice(what, called=called, given=given) if what else ""
        if instead:
            self.found.append((node.lineno, f"{what}()" if called else what, instead))

    def _dotted(self, node: ast.expr) -> str:
        """What an expression stands for, as `datetime.datetime.now`; empty where that cannot be told."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id if node.id in self._builtins else "")
        if isinstance(node, ast.Attribute):
            before = self._dotted(node.value)
            return f"{before}.{node.attr}" if before else ""
        if isinstance(node, ast.Call):  # what is made is told by its class
            return self._dotted(node.func)
        return ""


def _bound(node: Definition) -> set[str]:
    """The names that a definition gives a meaning of its own."""
    names = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)}
    return names | {part.name for part in ast.walk(node) if isinstance(part, _DEFINITIONS) and part is not node}


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


__all__ = ["Finding", "findings", "warn"]
