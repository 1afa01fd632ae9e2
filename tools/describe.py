"""From a function's hints and docstring to what a tool's readers see, and from JSON to its arguments and back.

The parameters' schema is closed, the `ctx: ToolContext` parameter is left out, and what a reader would have to guess (a missing hint,
a missing description) is refused where the tool is declared. Arguments travel as plain JSON with every default written out, so that
who approves a call sees all of it and equal calls are equal bytes.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from interlock.schemas.canonical import decode, digest, encode
from interlock.schemas.errors import BadDeclaration, ToolFailed, ToolRefused
from interlock.schemas.registry.explain import Problem, explain_all, pointer
from interlock.tools import docstring
from interlock.tools.context import ToolContext
from interlock.tools.nearest import nearest

if TYPE_CHECKING:
    from interlock.tools.tool import Tool

R = TypeVar("R")

_PREFIX = "arg_"  # keeps parameter names apart from those that pydantic's models have themselves
_PROBLEMS = 5
_DATA = ("default", "const", "enum", "examples")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Description(NamedTuple):
    """What a function says about itself. `context` is the name of its `ToolContext` parameter, empty where it has none."""

    summary: str
    parameters: dict[str, Any]
    returns: dict[str, Any]
    arguments: type[BaseModel]
    result: TypeAdapter[Any]
    context: str


# --- declaration ----------------------------------------------------------------------------------------------------


def describe(function: Callable[..., Any]) -> Description:
    """Everything that a tool's declaration needs; `BadDeclaration` names the parameter that cannot be described."""
    what = f"tool {function.__name__}"
    summary = docstring.summary(function)
    if not summary:
        raise BadDeclaration(what=what, problem="it has no docstring", remedy="Say in one paragraph what it does; the model reads it.")
    hints = _hints(function, what)
    context = next((name for name, hint in hints.items() if hint is ToolContext and name != "return"), "")
    arguments = _arguments(function, hints, context, what)
    result = _result(hints, what)
    return Description(summary, _closed(arguments), _without_titles(_returned(result, what)), arguments, result, context)


def _hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise BadDeclaration(what=what, problem=f"its hints cannot be read ({error})", remedy="Import what they name.") from None


def _arguments(function: Callable[..., Any], hints: Mapping[str, Any], context: str, what: str) -> type[BaseModel]:
    """The model of a tool's arguments: closed, each under its own name as alias."""
    words = docstring.parameters(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == context:
            continue
        if parameter.kind not in _BY_NAME:
            remedy = "Give each argument a name and a hint."
            raise BadDeclaration(what=what, problem=f"parameter {name} cannot be given by name", remedy=remedy)
        if name not in hints:
            hint = "ToolContext" if name == "ctx" else "str, or what it is; the model reads it"
            problem, remedy = f"parameter {name} has no hint", f"Write {name}: {hint}."
            raise BadDeclaration(what=what, problem=problem, remedy=remedy)
        fields[_PREFIX + name] = (hints[name], _field(parameter, hints[name], words.get(name), what))
    try:
        model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid", validate_default=True), **fields)
        _refuse_sets(model, what)
    except PydanticUserError as error:
        remedy = "Use types that JSON can carry: numbers, strings, lists, dicts, messages, pydantic models."
        raise BadDeclaration(what=what, problem=_first_line(error), remedy=remedy) from None
    return model


def _field(parameter: inspect.Parameter, hint: Any, words: str | None, what: str) -> FieldInfo:
    facts: dict[str, Any] = {"alias": parameter.name}
    if words is not None:
        facts["description"] = words
    if parameter.default is not inspect.Parameter.empty:
        try:
            TypeAdapter(hint).validate_python(parameter.default)
        except ValidationError:
            problem = f"the default of parameter {parameter.name} does not fit its hint"
            raise BadDeclaration(what=what, problem=problem, remedy="Correct one of them; None needs `| None`.") from None
        facts["default"] = parameter.default
    info: FieldInfo = Field(**facts)
    return info


def _refuse_sets(model: type[BaseModel], what: str) -> None:
    """A set is encoded in another order by each process: the same call would look like another after a crash."""
    if b'"uniqueItems":true' in encode(model.model_json_schema()):
        raise BadDeclaration(what=what, problem="a parameter is a set, which has no order", remedy="Use list[...].")


def _result(hints: Mapping[str, Any], what: str) -> TypeAdapter[Any]:
    if "return" not in hints:
        raise BadDeclaration(what=what, problem="it has no return hint", remedy="Write -> and what it returns, or -> None.")
    try:
        return TypeAdapter(hints["return"])
    except PydanticUserError as error:
        raise BadDeclaration(what=what, problem=_first_line(error), remedy="Return what JSON can carry.") from None


def _returned(result: TypeAdapter[Any], what: str) -> dict[str, Any]:
    try:
        return result.json_schema(mode="serialization")
    except PydanticUserError as error:
        raise BadDeclaration(what=what, problem=_first_line(error), remedy="Return what JSON can carry.") from None


def _closed(arguments: type[BaseModel]) -> dict[str, Any]:
    schema = _without_titles(arguments.model_json_schema())
    return {"type": "object", "properties": {}, **schema, "additionalProperties": False}


def _without_titles(schema: Any) -> Any:
    """The schema without the titles that pydantic makes of names: they tell a model nothing and cost tokens."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
        return {key: value if key in _DATA else _without_titles(value) for key, value in kept.items()}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


# --- calls ----------------------------------------------------------------------------------------------------------


def json_args(tool: "Tool[..., Any]", args: Mapping[str, Any]) -> dict[str, Any]:
    """Python arguments as the plain JSON that travels, defaults included; `ToolRefused` where they do not fit."""
    try:
        return _plain(tool, tool.arguments.model_validate(dict(args)))
    except ValidationError as error:
        raise _refused(tool, _words(error)) from None


def checked_args(tool: "Tool[..., Any]", args: Mapping[str, Any]) -> dict[str, Any]:
    """JSON arguments, as a model wrote them, in the form that travels; `ToolRefused` says what is wrong and what comes nearest."""
    try:
        return _plain(tool, tool.arguments.model_validate_json(encode(args)))
    except ValidationError as error:
        explained = explain_all(Draft202012Validator(tool.spec.parameters, validate_formats=False), dict(args), _PROBLEMS)
        raise _refused(tool, explained or _words(error)) from None


def validate_args(tool: "Tool[..., Any]", args: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for the function from JSON arguments, converted to what its hints say; without `ctx`."""
    try:
        model = tool.arguments.model_validate_json(encode(args))
    except ValidationError as error:
        raise _refused(tool, _words(error)) from None
    return {name.removeprefix(_PREFIX): getattr(model, name) for name in tool.arguments.model_fields}


def typed_result(tool: "Tool[..., R]", value: bytes) -> R:
    """A tool's recorded result as the type that its hint says; `ToolFailed` where it was cut or is something else."""
    if is_cut(decode(value)):
        problem = f"its result was longer than max_bytes={tool.spec.max_bytes} and has been cut"
        raise ToolFailed(tool=tool.spec.name, problem=problem, remedy="Its effect stands; raise max_bytes=, or return less.")
    if is_confirmed(decode(value)):
        problem = "its process ended before it could say what it returned; a person confirmed that it took effect"
        raise ToolFailed(tool=tool.spec.name, problem=problem, remedy="Its effect stands; look up what is needed of its result.")
    try:
        return tool.result.validate_json(value)
    except ValidationError as error:
        first = _words(error)[0]
        problem = f"it returned something else than its hint says: at {first.pointer}: {first.words}"
        raise ToolFailed(tool=tool.spec.name, problem=problem, remedy="Its effect stands; correct what it returns, or the hint.") from None


def is_cut(value: Any) -> bool:
    """Whether a result is what stands for one that was too long."""
    return isinstance(value, dict) and value.keys() == {"cut", "bytes", "head"} and value["cut"] is True


def is_confirmed(value: Any) -> bool:
    """Whether a result is what stands for one that is lost, of a call that a person has confirmed."""
    return isinstance(value, dict) and value.keys() == {"confirmed_by_human", "note"}


def _plain(tool: "Tool[..., Any]", model: BaseModel) -> dict[str, Any]:
    try:
        args = model.model_dump(mode="json", by_alias=True)
        digest(args)
        encode(args)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise _refused(tool, [Problem("/", f"they have no exact JSON form ({error})")]) from None
    return args


def _words(error: ValidationError) -> list[Problem]:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return [Problem(pointer(one["loc"]), one["msg"]) for one in errors[:_PROBLEMS]]


def _refused(tool: "Tool[..., Any]", problems: list[Problem]) -> ToolRefused:
    """The refusal that goes back to the caller: each problem with its place, and the nearest valid choice where there is one."""
    names = list(tool.spec.parameters["properties"])
    facts = [_fact(problem, names) for problem in problems]
    said = "; ".join(
        f"at {fact['pointer']}: {fact['problem']}" + (f" (nearest valid: {fact['nearest']})" if "nearest" in fact else "") for fact in facts
    )
    remedy = f"It takes: {', '.join(names) or 'no arguments'}. Correct the arguments and call it again."
    return ToolRefused(tool=tool.spec.name, problem=said, remedy=remedy, problems=facts, arguments=names)


def _fact(problem: Problem, names: list[str]) -> dict[str, Any]:
    fact: dict[str, Any] = {"pointer": problem.pointer, "problem": problem.words}
    if problem.allowed:
        fact["nearest"] = nearest(problem.given, problem.allowed)
    elif problem.unexpected and problem.pointer == "/" and names:
        fact["nearest"] = nearest(problem.unexpected[0], names)
    return fact
