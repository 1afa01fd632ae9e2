"""Orders that the journal cannot take now: each a file in the bus's folder, until the supervisor that can write again takes it over.

So a kill is durable while the database is away, and where a file still fits though the journal is stuck. A file is complete from the moment
that it has its name.
"""

import logging
import os
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from interlock.actors.supervisor.journal import Order
from interlock.schemas.canonical import decode, encode
from interlock.schemas.words import told

_LOG = logging.getLogger(__name__)

SPOOL = "orders"
"""The folder, in the bus's own."""


def put(spool: Path, order: Order) -> Path:
    """Keep an order, durably; where. The one that is there already against the same task stands. Raises `OSError`."""
    file = spool / order.id
    if file.exists():
        return file
    spool.mkdir(mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{order.id}.", dir=spool)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(encode(order._asdict()))
            output.flush()
            os.fsync(output.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        os.unlink(draft)
    for folder in (spool, spool.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return file


def waiting(spool: Path) -> dict[Path, Order]:
    """The orders that wait. What is none is said, and left where it is: it may not keep others from being obeyed."""
    orders: dict[Path, Order] = {}
    for file in sorted(spool.iterdir()) if spool.is_dir() else ():
        if file.name.startswith("."):
            continue
        try:
            orders[file] = Order(**decode(file.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            _say(file, told(error))
    return orders


@lru_cache(maxsize=100)
def _say(file: Path, problem: str) -> None:
    """Once: whoever looks for orders does so four times a second."""
    _LOG.error("%s is no order and is not obeyed (%s); take it away", file, problem)
