"""One try of one chat completion over HTTP, and what its failure means.

The openai SDK does the protocol (its own retries off); what goes out and what comes back is kept as it was. A failure says
three things that the caller's books depend on: why, whether trying again may help, and whether the endpoint may have done the work.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol, TypeGuard
from urllib.parse import urlsplit, urlunsplit

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI, DefaultAsyncHttpxClient

from interlock.schemas.canonical import decode

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_LONGEST_WAIT = 3600.0
_AGAIN = frozenset({408, 409, 429})  # besides everything from 500 on
_MAYBE_DONE = frozenset({408, 502, 504, 520, 522, 524})  # somebody between us and the model gave up waiting
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the models are. `timeout`: seconds for one try; `patience`: seconds for all tries of a call and the waits between."""

    base_url: str
    api_key: str = field(default="", repr=False)
    timeout: float = 120.0
    patience: float = 300.0

    @property
    def shown(self) -> str:
        """The URL as records and errors show it: without a password or a key that may stand in it."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def capped(self, output: int) -> dict[str, int]:
        """How the most tokens of an answer are asked for. OpenAI takes one name only; other endpoints may know only the other."""
        if urlsplit(self.base_url).hostname == "api.openai.com":
            return {"max_completion_tokens": output}
        return {"max_completion_tokens": output, "max_tokens": output}


class Answer(NamedTuple):
    """A completion: its body as it came, and decoded. `usage` is input, output and cached tokens; `None` where not reported."""

    raw: bytes
    body: dict[str, Any]
    usage: tuple[int, int, int] | None


class WireFailed(Exception):
    """A try that gave no answer. `status` is 0 where none came; `wait` the seconds that the endpoint asked for."""

    def __init__(self, problem: str, *, again: bool, maybe_done: bool, status: int = 0, wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem, self.again, self.maybe_done, self.status, self.wait = problem, again, maybe_done, status, wait


class Wire(Protocol):
    """How one try reaches a model."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it goes."""

    async def call(self, request: dict[str, Any], seconds: float) -> Answer:
        """Send the request once, within `seconds`. Raises `WireFailed`. Cancelled, it lets go of the connection."""

    async def counted(self, path: str, request: dict[str, Any]) -> int | None:
        """How many tokens a request is, as the endpoint's counter at `path` says; none where it does not. Lets go when cancelled."""

    async def close(self) -> None:
        """Close what is open; no call may follow."""


class ChatCompletions:
    """The wire to an endpoint that speaks OpenAI's chat completions."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        # A proxy set for the outside world must not be asked for this machine.
        http = DefaultAsyncHttpxClient(trust_env=not _is_loopback(endpoint.base_url))
        self._client = AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key or "none", max_retries=0, http_client=http)

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    async def call(self, request: dict[str, Any], seconds: float) -> Answer:
        rest = {key: value for key, value in request.items() if key not in ("model", "messages")}
        try:
            async with asyncio.timeout(seconds):  # the SDK's own timeout starts anew with every byte
                response = await self._client.chat.completions.with_raw_response.create(
                    model=request["model"],
                    messages=request["messages"],
                    extra_body=rest,
                    timeout=httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
                )
        except APIStatusError as error:
            raise status_failure(error.status_code, _said(error), error.code, error.response.headers) from error
        except APIConnectionError as error:
            raise _connection_failure(error) from error
        except TimeoutError:
            raise WireFailed(f"no answer within {seconds:g} s", again=True, maybe_done=True) from None
        return read_answer(response.content)

    async def counted(self, path: str, request: dict[str, Any]) -> int | None:
        parts = urlsplit(self._endpoint.base_url)
        asked = {name: request[name] for name in ("model", "messages", "tools") if name in request}
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                answer = await self._client.post(urlunsplit((parts.scheme, parts.netloc, path, "", "")), cast_to=object, body=asked)
        except (APIError, TimeoutError) as error:
            _log.warning("%s%s counted no tokens (%s): the request is bounded without it", self._endpoint.shown, path, error)
            return None
        counted = answer.get("count") if isinstance(answer, dict) else None
        return counted if isinstance(counted, int) and counted > 0 else None

    async def close(self) -> None:
        await self._client.close()


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def status_failure(status: int, said: str, code: str | None, headers: Mapping[str, str]) -> WireFailed:
    """What an HTTP error means; `code` is the endpoint's own word for it."""
    return WireFailed(
        f"HTTP {status}: {said}",
        again=(status >= 500 or status in _AGAIN) and code != "insufficient_quota",
        maybe_done=status in _MAYBE_DONE,
        status=status,
        wait=_retry_after(headers),
    )


def _said(error: APIStatusError) -> str:
    """The endpoint's own words, without what may be a whole web page around them."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body.get("error") or body
    text = " ".join(str(body or error.response.reason_phrase).split())
    return text if len(text) <= 300 else text[:300] + "…"


def _connection_failure(error: APIConnectionError) -> WireFailed:
    cause = error.__cause__
    if isinstance(cause, _NEVER_SENT):
        return WireFailed(f"no connection ({str(cause) or type(cause).__name__})", again=True, maybe_done=False)
    if isinstance(error, APITimeoutError):
        return WireFailed("no answer in time", again=True, maybe_done=True)
    return WireFailed(f"connection lost ({str(cause) or type(cause).__name__})", again=True, maybe_done=True)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the endpoint asks, an hour at the most: all tasks wait, and nobody outside may stop them for ever. A number, or a
    date set against its own `Date`, so that no clock of ours matters."""
    milliseconds, asked = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, _LONGEST_WAIT)
    if _NUMBER.fullmatch(asked):
        return min(float(asked), _LONGEST_WAIT)
    try:
        then, now = (parsedate_to_datetime(text).replace(tzinfo=UTC) for text in (asked, headers.get("date", "")))
    except ValueError:
        return None
    return min(max(0.0, (then - now).total_seconds()), _LONGEST_WAIT)


def read_answer(raw: bytes) -> Answer:
    """The completion in a response's body; `WireFailed` where it is none."""
    try:
        body = decode(raw)
        message = body["choices"][0]["message"]
    except (ValueError, LookupError, TypeError):
        message = None
    if not isinstance(message, dict):
        start = " ".join(raw[:80].decode(errors="replace").split())
        raise WireFailed(f"the answer is no chat completion (it begins {start!r})", again=True, maybe_done=True)
    return Answer(raw, body, _usage(body.get("usage")))


_MOST_TOKENS = 2**32
"""Whoever reports more for one call reports nonsense: it is charged as reserved."""


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS


def _usage(usage: Any) -> tuple[int, int, int] | None:
    if not isinstance(usage, dict):
        return None
    input, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (_is_count(input) and _is_count(output)):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return input, output, min(cached, input) if _is_count(cached) else 0
