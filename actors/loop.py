"""The model loop: a specialist that is a model with instructions, its own tools, and a contract to answer with.

ask the model → it calls tools: run them, show it the results → it answers: the answer satisfies the contract, or it is told once what is
wrong → reply. The bus enforces the budget; the agent's `Conversation` bounds what is said here, and ends what goes round in circles. All
that the model is sent follows from what it said and was told before, so that another attempt asks for the same calls.
"""

from typing import Any

from interlock.actors.agent_context import AgentContext
from interlock.actors.aim import Aim
from interlock.actors.definitions import AgentDefinition
from interlock.actors.drift import FORM, Checks
from interlock.actors.rounds import Made, ToolRounds
from interlock.actors.window import Window, size
from interlock.schemas.canonical import decode, encode
from interlock.schemas.entries import ContextFolded, SelfChecked
from interlock.schemas.errors import BadReply, NoModel, ToolRefused, Unreadable
from interlock.schemas.message import Message, read_message
from interlock.schemas.registry.catalog import Catalog
from interlock.schemas.registry.explain import Problem
from interlock.tools.toolbox import Toolbox

_NAME_CHARS = 100
_DIFFER = "This was done before with other arguments and is not done again: the result is that of the first call."
_FORM = 'Call it again as {"function": {"name": "...", "arguments": "..."}}, its arguments a JSON object written as text.'


class ModelLoop:
    """Runs requests of one agent. `default_model` is used where the agent names none."""

    def __init__(self, definition: AgentDefinition, default_model: str | None = None) -> None:
        self._definition = definition
        self._bounds = definition.conversation
        self._model = definition.model or default_model
        self._toolbox = Toolbox(definition.tools)
        self._catalog = Catalog()
        for cls in definition.returns:
            self._catalog.register(cls.contract, cls.contract_version, cls.json_schema())

    async def __call__(self, request: Message, ctx: AgentContext) -> Message:
        """Answer one request. Raises `BadReply`, `Drifted`, `LoopDetected`, `ModelFailed`, `ModelRefused` or what stops the task."""
        if self._model is None:
            raise NoModel(missing="INTERLOCK_MODEL")
        aim = Aim(ctx.goal, ctx.until)
        messages = self._opening(request, aim, ctx)
        window = Window(self._bounds.window_bytes, aim)
        checks = Checks(self._definition.name, self._bounds.check_every, aim)
        rounds = ToolRounds(f"agent {self._definition.name}", self._bounds.repeats)
        repaired, turns = False, 0
        while self._bounds.turns is None or turns < self._bounds.turns:
            turns += 1
            _make_room(window, messages, ctx)
            said, problems = await self._turn(messages, ctx)
            messages.append(said)
            if said.get("tool_calls"):
                messages += await self._use_tools(said["tool_calls"], problems, rounds, ctx)
                checks.did(1 + len(problems))
                if checks.due:
                    messages += await self._check(checks, window, messages, ctx)
                continue
            reply = self._read(said.get("content") or "", ctx)
            if isinstance(reply, Message):
                return reply
            if repaired:
                raise reply
            repaired = True
            messages.append({"role": "user", "content": _refusal(reply)})
        raise self._bad_reply(ctx, "(none)", f"no answer within {self._bounds.turns} turns")

    def _opening(self, request: Message, aim: Aim, ctx: AgentContext) -> list[dict[str, Any]]:
        schemas = "\n".join(encode(cls.json_schema()).decode() for cls in ctx.awaited)
        system = (
            f"You are the agent {self._definition.name}.\n{self._definition.instructions.strip()}\n\n{aim.opening()}"
            "Answer with one JSON object that satisfies this JSON Schema, and nothing else:\n" + schemas
        )
        return [{"role": "system", "content": system}, {"role": "user", "content": request.encoded().decode()}]

    async def _turn(self, messages: list[dict[str, Any]], ctx: AgentContext) -> tuple[dict[str, Any], list[str]]:
        """What the model says, in the form in which it may be sent back, and what was wrong with the form of each of its tool calls."""
        body = self._body(messages)
        if len(ctx.awaited) == 1:
            cls = ctx.awaited[0]
            body["response_format"] = _format(cls.contract.replace(".", "_"), cls.json_schema())
        said = await self._said(body, ctx)
        # Only what the wire format lets a client send back: providers add fields of their own.
        kept = {key: said[key] for key in ("content", "tool_calls", "refusal") if said.get(key) is not None}
        if "content" in kept:
            kept["content"] = _text(kept["content"])
        read = [_call(call, n) for n, call in enumerate(_calls(kept.get("tool_calls")))]
        if read:
            kept["tool_calls"] = [call for call, _ in read]
        else:
            kept.pop("tool_calls", None)
        return {"role": "assistant", "content": None, **kept}, [problem for _, problem in read]

    async def _check(self, checks: Checks, window: Window, messages: list[dict[str, Any]], ctx: AgentContext) -> list[dict[str, Any]]:
        """Ask the model whether it is still on its goal; what it is told after that. Raises `Drifted`."""
        question = checks.question()
        _make_room(window, messages, ctx, size([question]))
        body = {**self._body([*messages, question]), "response_format": _format("self_check", FORM)}
        if "tools" in body:
            body["tool_choice"] = "none"
        said = await self._said(body, ctx)
        check = checks.take(_without_fence(_text(said.get("content") or "")))
        ctx.note(SelfChecked.KIND, check._asdict())
        return checks.follow(check)

    def _body(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        tools = self._toolbox.schemas()
        return {"model": self._model, "messages": messages, **({"tools": tools} if tools else {})}

    async def _said(self, body: dict[str, Any], ctx: AgentContext) -> dict[str, Any]:
        response = await ctx.complete(str(self._model), body)
        said: dict[str, Any] = response["choices"][0]["message"]
        return said

    async def _use_tools(
        self, calls: list[dict[str, Any]], problems: list[str], rounds: ToolRounds, ctx: AgentContext
    ) -> list[dict[str, Any]]:
        """What the model is told of the calls of one turn, one message each."""
        told = [await self._use_tool(call, problem, ctx) for call, problem in zip(calls, problems, strict=True)]
        functions = [call["function"] for call in calls]
        rounds.turn([Made(one["name"], one["arguments"], of["content"]) for one, of in zip(functions, told, strict=True)])
        return told

    async def _use_tool(self, call: dict[str, Any], problem: str, ctx: AgentContext) -> dict[str, Any]:
        """One tool call of the model; whatever goes wrong with it is told to the model as data."""
        function = call["function"]
        try:
            if problem:
                raise ToolRefused(tool=function["name"][:_NAME_CHARS], problem=problem, remedy=_FORM)
            tool, args = self._toolbox.resolve(function["name"], function["arguments"])
        except ToolRefused as error:
            return _tool_message(call["id"], encode({"error": error.to_wire()}))
        answer = await ctx.call_json(tool, args)
        value = decode(answer.value)
        if answer.differs:
            return _tool_message(call["id"], encode({"result": value, "arguments_differ": _DIFFER}))
        return _tool_message(call["id"], answer.value if answer.ok else encode({"error": value}))

    def _read(self, content: str, ctx: AgentContext) -> Message | BadReply:
        """The reply in the model's answer, or what is wrong with it."""
        try:
            value = decode(_without_fence(content))
        except ValueError as error:
            return self._bad_reply(ctx, "(root)", f"it is not JSON ({error})")
        problem = None
        for cls in ctx.awaited:
            problem = self._catalog.problem(cls.contract, cls.contract_version, value)
            if problem is None:
                try:
                    return read_message(cls, encode(value))
                except Unreadable as error:  # a validator of the class asks more than the schema can say
                    problem = Problem(error.facts["pointer"], error.facts["problem"])
        return self._bad_reply(ctx, problem.pointer if problem else "(root)", problem.words if problem else "no contract is awaited")

    def _bad_reply(self, ctx: AgentContext, pointer: str, problem: str) -> BadReply:
        cls = ctx.awaited[0] if ctx.awaited else Message
        return BadReply(agent=self._definition.name, contract=cls.contract, version=cls.contract_version, pointer=pointer, problem=problem)


def _make_room(window: Window, messages: list[dict[str, Any]], ctx: AgentContext, beside: int = 0) -> None:
    if (made := window.fit(messages, beside)) is not None:
        ctx.note(ContextFolded.KIND, made._asdict())


def _format(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def _refusal(reply: BadReply) -> str:
    """What the model is told of the answer that is refused."""
    facts = reply.facts
    said = f"{facts['contract']} {facts['version']}: at {facts['pointer']}: {facts['problem']}"
    return f"That answer is refused by {said}.\nAnswer again with corrected JSON only."


def _calls(tool_calls: Any) -> list[Any]:
    return tool_calls if isinstance(tool_calls, list) else [] if tool_calls is None else [tool_calls]


def _call(call: Any, n: int) -> tuple[dict[str, Any], str]:
    """A tool call in the form that endpoints take back, unchanged if it had it, and what was wrong with its form."""
    whole = call if isinstance(call, dict) else {}
    function = whole.get("function")
    parts = function if isinstance(function, dict) else {}
    id, name, arguments = whole.get("id"), parts.get("name"), parts.get("arguments")
    if isinstance(id, str) and isinstance(name, str) and isinstance(arguments, str):
        return whole, ""
    if not parts:
        problem = "the call has no function"
    elif not isinstance(name, str):
        problem = "the call names no function"
    elif not isinstance(arguments, str):
        problem = f"its arguments are not text but {_kind(arguments)}"
    else:
        problem = "the call has no id"
    shown = {
        "name": name if isinstance(name, str) else "unknown",
        "arguments": arguments if isinstance(arguments, str) else _json(arguments),
    }
    return {"id": id if isinstance(id, str) else f"call_{n}", "type": "function", "function": shown}, problem


def _kind(value: Any) -> str:
    return {type(None): "null", dict: "an object", list: "an array", bool: "a boolean"}.get(type(value), "a number")


def _json(value: Any) -> str:
    return encode({} if value is None else value).decode()


def _text(content: Any) -> str:
    """Content as text, also where an endpoint gives it in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else _json(content)


def _tool_message(id: str, content: bytes) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content.decode()}


def _without_fence(content: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    text = content.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json").strip()
    return text
