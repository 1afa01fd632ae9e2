"""An app's migrations are tried before it is deployed, on messages made up from their sources' contracts."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from interlock.actors.migrations import Migration
from interlock.app import App
from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration, MigrationFailed, Unreadable
from interlock.schemas.message import read_message
from interlock.schemas.registry.replay import shrunk
from interlock.schemas.registry.samples import samples
from interlock.schemas.words import clean, told

_SHOWN = 200


def prove_migrations(app: App) -> None:
    """Raises `BadDeclaration`, with a message, for one that makes something of it that its target's contract does not allow, or fails
    otherwise than by a ValueError of its own: by that it says that the other major has no such message."""
    for migration in app.migrations:
        messages = samples(migration.source.json_schema())
        problem, message = _broken(migration, messages)
        if problem:
            small = shrunk(message, lambda other, one=migration: bool(_broken(one, [other])[0]))  # type: ignore[misc]
            shown, (problem, _) = clean(encode(small).decode(), _SHOWN), _broken(migration, [small])
            raise _refused(migration, f"of the message {shown} it makes none that {migration.target.__name__} allows: {problem}")
        if not any(_made(migration, message) is not None for message in messages):
            raise _refused(migration, f"it made nothing of any of {len(messages)} messages on which it was tried")


def _refused(migration: Migration, problem: str) -> BadDeclaration:
    remedy = "Correct it, narrow the contract, or raise ValueError where the other major has no such message."
    return BadDeclaration(what=f"migration {migration.spec.name}", problem=problem, remedy=remedy)


def _made(migration: Migration, message: Any) -> bytes | None:
    """What becomes of a message of which nothing goes wrong; none where nothing becomes of it."""
    try:
        return migration.function(read_message(migration.source, encode(message))).encoded()
    except (Unreadable, ValueError):
        return None


def _broken(migration: Migration, messages: Iterable[Any]) -> tuple[str, Any]:
    """What goes wrong, and with which message; empty where all is well."""
    for message in messages:
        try:
            made = migration.function(read_message(migration.source, encode(message)))
        except Unreadable:
            continue  # what the class refuses, though its contract does not, it never gets
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return clean(f"{'/'.join(map(str, first['loc']))}: {first['msg']}"), message
        except ValueError:
            continue
        except Exception as error:  # noqa: BLE001 - the app's own code, which is what is tried
            return told(error), message
        try:
            migration.checked(made)
        except MigrationFailed as failed:
            return str(failed.facts["problem"]), message
        if _made(migration, message) != made.encoded():
            return "it makes something else of it the second time", message
    return "", None
