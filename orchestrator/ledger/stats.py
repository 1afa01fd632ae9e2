"""How large a ledger is and what it is made of: read beside a running bus, or without one."""

from typing import Any

from interlock.orchestrator.ledger.reader import SCHEMA_VERSION, SqlReader

_KINDS = "SELECT kind, count(*), sum(length(data)), max(at) FROM entries GROUP BY kind ORDER BY kind"
_KEPT = "SELECT count(*), coalesce(sum(length(data)), 0) FROM contents"
_TASKS = "SELECT CASE WHEN outcome = '' THEN state ELSE outcome END AS how, count(*) FROM tasks GROUP BY how ORDER BY how"


def stats(reader: SqlReader) -> dict[str, Any]:
    """`entries`, `bytes` (on the disk), `epoch`, `layout`, `last_at` (microseconds, null where it is empty), `tasks` by state or outcome,
    `kinds`: of each kind of entry how many there are and the bytes of what they say; `kept`: the same of what model calls said."""
    own = reader.moment()
    try:
        kinds = own.all(_KINDS)
        ((pieces, kept),) = own.all(_KEPT)
        ((epoch,),) = own.all("SELECT epoch FROM epoch")
        return {
            "entries": sum(count for _, count, _, _ in kinds),
            "bytes": own.size(),
            "epoch": epoch,
            "layout": SCHEMA_VERSION,
            "last_at": max((at for *_, at in kinds), default=None),
            "tasks": {how: int(count) for how, count in own.all(_TASKS)},
            "kept": {"pieces": int(pieces), "bytes": int(kept)},
            "kinds": {kind: {"entries": int(count), "bytes": int(size)} for kind, count, size, _ in kinds},
        }
    finally:
        own.close()
