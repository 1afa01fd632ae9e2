"""What of asyncio cannot be replayed, refused by name.

A socket, a thread, a process or a signal answers differently the second time. Each way to one raises `Unsupported` and says what to
do instead.
"""

import asyncio
from typing import Any

from interlock.schemas.errors import Unsupported

_AGENT = "an agent (`await ctx.ask(...)`)"
_TASK = "`await ctx.ask(...)`, `await` or `asyncio.create_task` in the workflow itself"
_AS_IT_IS = "it as it is; `ctx.now`, `ctx.sleep`, `ctx.random` and `ctx.uuid` have time, chance and ids"


def _refused(what: str, instead: str) -> Any:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise Unsupported(what=what, instead=instead)

    return refuse


_network = _refused("A network connection", _AGENT)
_descriptor = _refused("Waiting for a file descriptor", _AGENT)
_process = _refused("A child process", _AGENT)
_thread = _refused("Work in a thread or an executor", _AGENT)
_signal = _refused("A signal handler", "`ctx.receive(...)`, `ctx.ask_human(...)`, or `interlock kill` to stop the task")
_lifecycle = _refused("Running, stopping or closing the event loop", _TASK)
_settings = _refused("Changing how the event loop works", _AS_IT_IS)


class Refusals(asyncio.AbstractEventLoop):
    """The base of the replay loop: every method here refuses."""

    run_forever = run_until_complete = stop = close = _lifecycle
    shutdown_asyncgens = shutdown_default_executor = _lifecycle

    call_soon_threadsafe = _refused("A call from another thread", _AGENT)
    run_in_executor = set_default_executor = _thread

    create_connection = create_server = create_unix_connection = create_unix_server = connect_accepted_socket = _network
    create_datagram_endpoint = getaddrinfo = getnameinfo = start_tls = sendfile = _network
    sock_recv = sock_recv_into = sock_recvfrom = sock_recvfrom_into = sock_sendall = sock_sendto = _network
    sock_connect = sock_accept = sock_sendfile = _network

    add_reader = remove_reader = add_writer = remove_writer = connect_read_pipe = connect_write_pipe = _descriptor
    subprocess_shell = subprocess_exec = _process
    add_signal_handler = remove_signal_handler = _signal

    set_debug = set_task_factory = set_exception_handler = _settings
