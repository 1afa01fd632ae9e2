"""A model endpoint on loopback whose answers come from a playbook: a real HTTP server that speaks OpenAI's chat completions.

It exists so that agents can be tested, and the demo shown, without a model: what talks to it cannot tell the difference, faults
and delays included. It needs no key and takes any. It runs on a thread of its own, so it serves Ray actors and other processes too.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from interlock.schemas.canonical import decode, encode
from interlock.testing.playbook import Playbook, Reply, prompt_tokens

_MAX_HEAD = 65_536
_MAX_BODY = 64 << 20


class ScriptedModel:
    """A running server. `base_url` is what OPENAI_BASE_URL takes; `requests` are the bodies of all chat-completions calls in
    order of arrival, `count` their number, `dropped` those whose caller went away before an answer."""

    def __init__(self, playbook: Playbook, delay: float) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.requests: list[dict[str, Any]] = []
        self.dropped = 0
        self._changed = threading.Condition()
        self._playbook = playbook
        self._delay = delay
        self._fired: Counter[int] = Counter()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="scripted model", daemon=True)

    @classmethod
    def start(cls, playbook: str | Path | Mapping[str, Any] | Playbook, delay: float = 0.0) -> Self:
        """Serve a playbook (a path or an object) on a free port; every answer waits `delay` seconds more than its rule says."""
        model = cls(Playbook.load(playbook), delay)
        model._thread.start()
        return model

    @property
    def count(self) -> int:
        return len(self.requests)

    def wait_until(self, holds: Callable[[], bool], timeout: float = 10.0) -> None:
        """Block until `holds()`, asked again whenever `requests` or `dropped` changes; `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(holds, timeout):
                raise TimeoutError(f"{self.count} requests came and {self.dropped} were dropped within {timeout:g} s, and that is not it")

    def stop(self) -> None:
        """End the server and every connection; what hangs is dropped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, sock=self._socket, limit=_MAX_HEAD)
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it ends."""
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller went away, or does not speak HTTP: nobody is there to be told
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit() or int(length) > _MAX_BODY:
            await _send(writer, _problem(411, "send a body with a Content-Length of 64 MiB at the most"))
            return False
        body = await reader.readexactly(int(length))
        reply = self._route(line, body)
        if not await self._pause(reply, reader):
            with self._changed:
                self.dropped += 1
                self._changed.notify_all()
            return False
        if reply.fault == "drop":
            return False
        await _send(writer, reply)
        return headers.get("connection", "").lower() != "close"

    def _route(self, line: str, body: bytes) -> Reply:
        method, path = (*line.split(" "), "", "")[:2]
        match method, path.partition("?")[0]:
            case "POST", "/v1/chat/completions":
                return self._complete(body)
            case "POST", "/tokenize":
                return self._tokenize(body)
            case "GET", "/v1/models":
                model = {"id": self._playbook.model or "scripted", "object": "model", "created": 0, "owned_by": "interlock"}
                return Reply(200, encode({"object": "list", "data": [model]}), "")
        return _problem(404, f"{method} {path} is not served here; POST /v1/chat/completions, POST /tokenize and GET /v1/models are")

    def _tokenize(self, body: bytes) -> Reply:
        """How many tokens a conversation is, as vLLM says it."""
        request = _conversation(body)
        return request if isinstance(request, Reply) else Reply(200, encode({"count": prompt_tokens(request)}), "")

    def _complete(self, body: bytes) -> Reply:
        request = _conversation(body)
        if isinstance(request, Reply):
            return request
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if request.get("stream"):
            return _problem(400, "this endpoint does not stream; leave `stream` out")
        reply = self._playbook.reply(request, self._fired)
        return reply._replace(delay=reply.delay + self._delay)

    async def _pause(self, reply: Reply, reader: asyncio.StreamReader) -> bool:
        """Wait as the reply says, for ever if it hangs; false as soon as the caller has gone away."""
        seconds = None if reply.fault == "hang" else reply.delay
        if seconds == 0:
            return True
        # A caller sends nothing while it waits, so whatever can be read now is the end of the connection.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({gone}, timeout=seconds)
            return not gone.done()
        finally:
            gone.cancel()
            await asyncio.wait({gone})


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    wait = "" if reply.retry_after is None else f"Retry-After: {reply.retry_after:g}\r\n"
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(reply.body)}\r\n{wait}\r\n"
    )
    writer.write(head.encode("latin-1") + reply.body)
    await writer.drain()


def _conversation(body: bytes) -> dict[str, Any] | Reply:
    """The request, or why it is none."""
    try:
        request = decode(body)
    except ValueError as error:
        return _problem(400, f"the body is not JSON ({error})")
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return _problem(400, "the body is not an object with a list of messages")
    return dict(request)


def _problem(status: int, problem: str) -> Reply:
    error = {"error": {"message": problem, "type": "invalid_request_error", "param": None, "code": None}}
    return Reply(status, encode(error), "")
