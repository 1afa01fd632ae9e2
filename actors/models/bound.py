"""The worst case of a model call, known before it is sent: how many tokens go in at the most, how many may come out.

Input: a token covers at least one byte of what is sent, so the UTF-8 bytes of the whole request bound the tokens of its content, and
constants bound what an endpoint's chat template adds around it; where the operator declares a tokenizer its count takes the bytes' place.
Output: the request's own cap, which the endpoint is told. What has no bound known here (several answers, paid search, priority tiers, and
pictures whose most tokens nobody has declared) is refused, never guessed.
"""

from typing import Any, NamedTuple

from interlock.actors.models.bounds import BYTES, Bounds
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import UnboundedCall

DEFAULT_CAP = 4096
PER_CALL = 512  # a template's preamble: dates, tool instructions, the start of the answer
PER_MESSAGE = 16  # role and delimiters
PER_TOOL = 32
_TEXTS = ("text", "refusal")

# fmt: off
_FIELDS = frozenset({
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity",
    "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "user", "prompt_cache_key", "safety_identifier",
})
# fmt: on


class Bounded(NamedTuple):
    """A request without its output cap, the most tokens that it is, and the cap. `size` of them stand for its text, `parts` for what is no
    text, the others for what a chat template adds."""

    request: dict[str, Any]
    input: int
    cap: int
    size: int
    parts: int = 0


def bounded(model: str, data: bytes, declared: Bounds = BYTES) -> Bounded:
    """Decode a request and bound it; `UnboundedCall` where that cannot be done."""
    request = _decoded(model, data)
    strange = sorted(set(request) - _FIELDS)
    if strange:
        _refuse(model, f"what the field {strange[0]!r} costs is not known", "leave that field out.")
    messages, tools = _objects(model, request, "messages"), _objects(model, request, "tools")
    parts = sum(_parts(model, message, declared) for message in messages)
    for tool in tools:
        if tool.get("type") != "function":
            _refuse(
                model, f"a tool of type {tool.get('type')!r} may run at the endpoint, for money", "offer tools of type 'function' only."
            )
    cap = _cap(model, request)
    request["model"] = model
    text = {**request, "messages": [_text_of(message) for message in messages]} if parts else request
    size = len(encode(text)) if declared.encoder is None else declared.text(text)
    return Bounded(request, size + parts + PER_CALL + PER_MESSAGE * len(messages) + PER_TOOL * len(tools), cap, size, parts)


def _refuse(model: str, problem: str, remedy: str) -> None:
    raise UnboundedCall(model=model, problem=problem, remedy=remedy)


def _decoded(model: str, data: bytes) -> dict[str, Any]:
    try:
        request = decode(data)
    except ValueError as error:
        raise UnboundedCall(model=model, problem=f"the request is not JSON ({error})", remedy="send a JSON object.") from None
    if not isinstance(request, dict):
        _refuse(model, "the request is not a JSON object", "send the body of a chat completion.")
    return dict(request)


def _objects(model: str, request: dict[str, Any], field: str) -> list[dict[str, Any]]:
    items = request.get(field, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        _refuse(model, f"{field!r} is not a list of objects", "send the body of a chat completion.")
    return list(items)


def _parts(model: str, message: dict[str, Any], declared: Bounds) -> int:
    """The most tokens of a message's parts that are no text."""
    content, tokens = message.get("content"), 0
    for part in content if isinstance(content, list) else []:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind in declared.parts and kind not in _TEXTS:
            tokens += declared.parts[kind]
        elif kind not in _TEXTS:
            declared_as = f'{{"{model}": {{"parts": {{"{kind}": TOKENS}}}}}}'
            remedy = f"send text only, or say in the file that INTERLOCK_BOUNDS names what one costs at the most: {declared_as}."
            _refuse(model, f"a content part of type {kind!r} costs more tokens than it has bytes", remedy)
    return tokens


def _text_of(message: dict[str, Any]) -> dict[str, Any]:
    """The message without its parts that are no text: a picture's bytes are not what it costs."""
    content = message.get("content")
    return {**message, "content": [part for part in content if part.get("type") in _TEXTS]} if isinstance(content, list) else message


def _cap(model: str, request: dict[str, Any]) -> int:
    caps = [cap for name in ("max_tokens", "max_completion_tokens") if (cap := request.pop(name, None)) is not None]
    if any(not isinstance(cap, int) or isinstance(cap, bool) or cap < 1 for cap in caps):
        _refuse(model, f"its output cap {caps[-1]!r} is not a whole number above zero", "give max_completion_tokens as one.")
    return min(caps, default=DEFAULT_CAP)
