"""Orders that the journal cannot take now: each a file in the bus's folder, until the supervisor that can write again takes it over.

So a kill is durable while the database is away, and where a file still fits though the journal is stuck. A file is complete from the moment
that it has its name.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from interlock.actors.supervisor.journal import Order
from interlock.schemas.canonical import decode, encode

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
    """The orders that wait."""
    if not spool.is_dir():
        return {}
    return {file: Order(**decode(file.read_bytes())) for file in sorted(spool.iterdir()) if not file.name.startswith(".")}
