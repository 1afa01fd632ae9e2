"""Migrations: pure functions that turn a message of one major of a contract into one of another.

The bus says which of them are on a message's way, and records it; who reads the message applies them, for they are the app's own code. So
what travels, and what is on record, is what was written.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from interlock.schemas.errors import BadDeclaration, MigrationFailed, Unreadable
from interlock.schemas.message import Message, contract_of, read_message
from interlock.schemas.registry.ways import fits
from interlock.schemas.specs import ContractRef, MigrationSpec
from interlock.schemas.words import told


@dataclass(frozen=True)
class Migration:
    """From one class to the other, up or down."""

    source: type[Message]
    target: type[Message]
    function: Callable[[Any], Message]

    @property
    def spec(self) -> MigrationSpec:
        return MigrationSpec(ContractRef(*contract_of(self.source)), ContractRef(*contract_of(self.target)))

    def apply(self, message: Message) -> Message:
        """What becomes of a message; `MigrationFailed` where nothing becomes of it, or nothing that the target's contract allows."""
        try:
            made = self.function(message)
        except Exception as error:  # noqa: BLE001 - the app's own code: its failure is a message that cannot be read
            raise self._failed(told(error)) from None
        return self.checked(made)

    def checked(self, made: object) -> Message:
        """What the function made, if it is what it says that it makes; else raises `MigrationFailed`."""
        if not isinstance(made, Message) or type(made) is not self.target:
            raise self._failed(f"it made {type(made).__name__} of it")
        try:
            return read_message(self.target, made.encoded())  # a class can be made without a look at its fields
        except Unreadable as error:
            raise self._failed(str(error)) from None

    def _failed(self, problem: str) -> MigrationFailed:
        return MigrationFailed(migration=self.spec.name, problem=problem)


class Migrations:
    """Those of one app, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Migration] = {}

    def __iter__(self) -> Iterator[Migration]:
        return iter(self._known.values())

    def declare(self, source: type[Message], target: type[Message], function: Callable[[Any], Message]) -> Migration:
        """Take one more; `BadDeclaration` for one that could not be applied."""
        migration = Migration(source, target, function)
        (name, old), (other, new) = contract_of(source), contract_of(target)
        what = f"migration {migration.spec.name}"
        if name != other:
            raise BadDeclaration(what=what, problem=f"{other} is another contract", remedy="Name two classes of one contract.")
        if old.partition(".")[0] == new.partition(".")[0]:
            problem = "within a major the later version reads what the earlier one says"
            raise BadDeclaration(what=what, problem=problem, remedy="Leave it out, or name classes of two majors.")
        if inspect.iscoroutinefunction(function):
            problem = "it is async, and what it makes of a message may depend on nothing else"
            raise BadDeclaration(what=what, problem=problem, remedy="Write a plain def that returns the new message.")
        if migration.spec.name in self._known:
            raise BadDeclaration(what=what, problem="it is declared twice", remedy="Leave one of them out.")
        self._known[migration.spec.name] = migration
        return migration

    def along(self, name: str, data: bytes) -> tuple[bytes, str]:
        """A message and its version after the migration of this name. Raises `MigrationFailed` or `Unreadable`."""
        migration = self._known.get(name)
        if migration is None:
            raise MigrationFailed(migration=name, problem="the app that is loaded here does not declare it any more")
        return migration.apply(read_message(migration.source, data)).encoded(), migration.target.contract_version


class Readers:
    """Some message classes, and which of them reads what."""

    def __init__(self, classes: Iterable[type[Message]]) -> None:
        self._classes = tuple(classes)
        self._exact = {contract_of(cls): cls for cls in self._classes[::-1]}

    def read(self, migrations: Migrations, name: str, version: str, data: bytes, migrated: Iterable[str] = ()) -> Message:
        """A message as the class that reads its version, or the one to which the `migrated` migrations lead. Raises `Unreadable` or
        `MigrationFailed`."""
        for step in migrated:
            data, version = migrations.along(step, data)
        cls = self._exact.get((name, version)) or self._later(name, version)
        if cls is None:
            known = " or ".join(cls.__name__ for cls in self._classes)
            raise Unreadable(cls=known, contract=name, version=version, pointer="/", problem="another contract is expected here")
        return read_message(cls, data)

    def _later(self, name: str, version: str) -> type[Message] | None:
        """One of a later version in its major, else (what is read is what the bus let through) the first of this contract."""
        named = [cls for cls in self._classes if cls.contract == name]
        return next((cls for cls in named if fits(ContractRef(*contract_of(cls)), name, version)), named[0] if named else None)
