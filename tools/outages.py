"""Outages: whether what a tool raised says that the system behind it does not answer, or is out of order.

Anything else (a bad argument, a 404, a fault in the tool) says nothing about that system. The error itself is looked at and whatever it
was raised `from`; HTTP clients are known by what their errors have in common, so that none of them has to be imported.
"""

from collections.abc import Iterator
from socket import gaierror
from typing import Any

from interlock.schemas.errors import ToolTimeout

_OURS = (ConnectionError, TimeoutError, gaierror, ToolTimeout)
_CLIENTS = {"httpx", "httpx2", "requests", "urllib3", "aiohttp", "botocore", "grpc", "psycopg", "redis"}
_NAMES = {"TransportError", "ConnectionError", "Timeout", "ClientConnectionError", "EndpointConnectionError", "OperationalError"}


def is_outage(error: BaseException) -> bool:
    """Whether the error, or one that it was raised from, speaks of the other side."""
    return any(isinstance(one, _OURS) or _is_client_s(type(one)) or _status(one) >= 500 for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__


def _is_client_s(cls: type[BaseException]) -> bool:
    return any(base.__name__ in _NAMES and base.__module__.partition(".")[0] in _CLIENTS for base in cls.__mro__)


def _status(error: BaseException) -> int:
    """The HTTP status that an error of a client carries, 0 where it carries none."""
    response: Any = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status_code"), (error, "status")):
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
