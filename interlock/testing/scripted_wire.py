"""The scripted model without a network: the wire's twin in memory, for simulations on virtual time.

A gateway that has it instead of HTTP sees the same answers and the same failures, byte for byte from the same playbook.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.actors.models.wire import Answer, Endpoint, WireFailed, read_answer, status_failure
from interlock.schemas.canonical import decode, encode
from interlock.testing.playbook import Playbook, Reply, prompt_tokens


class ScriptedWire:
    """A wire that a playbook answers. `requests` are the bodies of all tries, `count` their number."""

    def __init__(self, playbook: str | Path | Mapping[str, Any] | Playbook, endpoint: Endpoint) -> None:
        self.requests: list[dict[str, Any]] = []
        self._playbook = Playbook.load(playbook)
        self._endpoint = endpoint
        self._fired: Counter[int] = Counter()

    @property
    def count(self) -> int:
        return len(self.requests)

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    async def call(self, request: dict[str, Any], seconds: float) -> Answer:
        body = decode(encode(request))
        self.requests.append(body)
        reply = self.reply(body)
        try:
            async with asyncio.timeout(seconds):
                return await _played(reply)
        except TimeoutError:
            raise WireFailed(f"no answer within {seconds:g} s", again=True, maybe_done=True) from None

    async def counted(self, path: str, request: dict[str, Any]) -> int | None:
        return prompt_tokens(decode(encode(request))) if path == "/tokenize" else None

    def reply(self, body: dict[str, Any]) -> Reply:
        """What becomes of a request."""
        return self._playbook.reply(body, self._fired)

    async def close(self) -> None:
        """Nothing is open."""


async def _played(reply: Reply) -> Answer:
    if reply.fault == "hang":
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(reply.delay)
    if reply.fault == "drop":
        raise WireFailed("connection lost (scripted)", again=True, maybe_done=True)
    if reply.status != 200:
        error = decode(reply.body)["error"]
        headers = {} if reply.retry_after is None else {"retry-after": f"{reply.retry_after:g}"}
        raise status_failure(reply.status, error["message"], error["code"], headers)
    return read_answer(reply.body)
