"""A toolbox: the tools of one agent, as its model sees and calls them.

Whatever a model calls comes out either as one of these tools with arguments that fit, or as a refusal with the nearest valid choice,
which goes back to the model as data.
"""

from collections.abc import Iterable
from typing import Any

from interlock.schemas.canonical import decode
from interlock.schemas.errors import BadDeclaration, ToolRefused
from interlock.tools.describe import checked_args
from interlock.tools.nearest import nearest
from interlock.tools.tool import Tool

_NAME_CHARS = 100


class Toolbox:
    """The tools of one agent, by name."""

    def __init__(self, tools: Iterable[Tool[..., Any]]) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for tool in tools:
            if tool.spec.name in self._tools:
                raise BadDeclaration(
                    what=f"tool {tool.spec.name}", problem="an agent has two of this name", remedy="Give one of them another name=."
                )
            self._tools[tool.spec.name] = tool

    def schemas(self) -> list[dict[str, Any]]:
        """The tools in the form that chat-completions endpoints take."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.spec.name,
                    "description": tool.spec.description,
                    "parameters": tool.spec.parameters,
                },
            }
            for tool in self._tools.values()
        ]

    def resolve(self, name: str, args_json: str | bytes) -> tuple[Tool[..., Any], dict[str, Any]]:
        """The tool that was called and its arguments as plain JSON, complete; `ToolRefused` with facts otherwise."""
        tool = self._tools.get(name)
        if tool is None:
            raise self._unknown(name)
        return tool, checked_args(tool, _object(name, args_json))

    def _unknown(self, name: str) -> ToolRefused:
        known = list(self._tools)
        remedy = f"Nearest: {nearest(name, known)}. There are: {', '.join(known)}." if known else "There are no tools here; answer without."
        facts = {"nearest": nearest(name, known)} if known else {}
        return ToolRefused(tool=name[:_NAME_CHARS], problem="there is no such tool", remedy=remedy, known=known, **facts)


def _object(name: str, args_json: str | bytes) -> dict[str, Any]:
    """The arguments as a JSON object; some models write nothing at all where a tool takes none."""
    try:
        args = decode(args_json) if args_json.strip() else {}
    except ValueError as error:
        raise ToolRefused(tool=name, problem=f"its arguments are not JSON ({error})", remedy="Call it again with a JSON object.") from None
    if not isinstance(args, dict):
        raise ToolRefused(
            tool=name, problem=f"its arguments are no JSON object but {type(args).__name__}", remedy="Call it again with a JSON object."
        )
    return args
