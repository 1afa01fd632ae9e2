"""The catalog of contracts: what is registered, and whether a value satisfies it.

A version is admitted only if it is a valid JSON Schema 2020-12 that refers to nothing outside itself, and if its number is honest: within
its major every newer version accepts all that every older one accepted, and a patch accepts no more than that either. What was admitted
never changes. `format` is an annotation. The catalog is memory only: whoever owns it writes an entry for each version that `register`
calls new, and hands those back through `restore`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator as MetaSchema
from jsonschema.exceptions import SchemaError, best_match

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import (
    BadDeclaration,
    ContractConflict,
    DishonestVersion,
    IncompatibleContract,
    InvalidMessage,
    InvalidSchema,
    RemoteReference,
    UnknownContract,
)
from interlock.schemas.registry.explain import Problem, explain, pointer
from interlock.schemas.registry.proof.inclusion import Pair, Side
from interlock.schemas.registry.references import outside
from interlock.schemas.registry.verdict import sentence
from interlock.schemas.registry.versions import in_order, is_patch, next_major, next_minor, next_patch, parse, same_major
from interlock.schemas.specs import ContractRef

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DRAFT = 2020

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")


@dataclass(frozen=True, slots=True)
class _Admitted:
    schema: dict[str, Any]
    encoded: bytes
    validator: jsonschema_rs.Validator


class Catalog:
    """Contracts by name and version. Not for several threads at once."""

    def __init__(self) -> None:
        self._contracts: dict[str, dict[str, _Admitted]] = {}

    def register(self, name: str, version: str, schema: dict[str, Any]) -> bool:
        """Admit a version; false where exactly this one is there already. May take seconds where versions must be compared."""
        _check_name(name, version)
        encoded = _encoded(name, version, schema)
        taken = self._contracts.get(name, {})
        if version in taken:
            if taken[version].encoded == encoded:
                return False
            raise ContractConflict(contract=name, version=version, next_version=next_patch(version, taken))
        validator = _compiled(name, version, schema, encoded)
        admitted = _Admitted(decode(encoded), encoded, validator)
        self._check_honest(name, version, admitted)
        self._contracts.setdefault(name, {})[version] = admitted
        return True

    def restore(self, name: str, version: str, schema: dict[str, Any]) -> None:
        """Put back a version that was admitted before, without the proof it passed then."""
        encoded = _encoded(name, version, schema)
        self._contracts.setdefault(name, {})[version] = _Admitted(schema, encoded, _compiled(name, version, schema, encoded))

    def withdraw(self, name: str, version: str) -> None:
        """Forget a version whose admission came to nothing: it was proved here and recorded nowhere."""
        del self._contracts[name][version]

    def get(self, name: str, version: str) -> dict[str, Any]:
        """The JSON Schema of one version."""
        return self._admitted(name, version).schema

    def validate(self, name: str, version: str, value: Any) -> None:
        """`InvalidMessage` unless the decoded JSON `value` satisfies the contract."""
        admitted = self._admitted(name, version)
        if not admitted.validator.is_valid(value):
            problem = _explained(admitted, value)
            raise InvalidMessage(contract=name, version=version, pointer=problem.pointer, problem=problem.words)

    def problem(self, name: str, version: str, value: Any) -> Problem | None:
        """Where and why `value` breaks the contract; `None` where it does not."""
        admitted = self._admitted(name, version)
        return None if admitted.validator.is_valid(value) else _explained(admitted, value)

    def versions(self, name: str) -> list[str]:
        """The registered versions of a contract, lowest first; empty for an unknown name."""
        return in_order(self._contracts.get(name, ()))

    def latest(self, name: str) -> str:
        """The highest registered version."""
        versions = self.versions(name)
        if not versions:
            raise self._unknown(name, "")
        return versions[-1]

    def known(self) -> list[ContractRef]:
        """Everything registered, by name and from the lowest version."""
        return [ContractRef(name, version) for name in sorted(self._contracts) for version in self.versions(name)]

    def _admitted(self, name: str, version: str) -> _Admitted:
        try:
            return self._contracts[name][version]
        except KeyError:
            raise self._unknown(name, version) from None

    def _unknown(self, name: str, version: str) -> UnknownContract:
        refs = [ContractRef(name, other) for other in self.versions(name)] or self.known()
        return UnknownContract(contract=name, version=version, known=", ".join(map(str, refs)) or "none")

    def _check_honest(self, name: str, version: str, admitted: _Admitted) -> None:
        """Against every registered version of the same major: the newer of the two accepts what the older accepts, a patch nothing else."""
        taken = self._contracts.get(name, {})
        near = {other: found for other, found in taken.items() if same_major(version, other)} | {version: admitted}
        ordered = in_order(near)
        # A prerelease between two versions must not keep them from being compared.
        steps = [{*step} for step in pairwise(other for other in ordered if not parse(other).prerelease)]
        for other in ordered:
            if other == version:
                continue
            older, newer = in_order([version, other])
            pair = Pair(_side(older, near[older]), _side(newer, near[newer]))
            known = f"{other} is registered already, and " if other == newer else ""
            if not (found := pair.backward()).proved():
                raise IncompatibleContract(
                    contract=name,
                    version=newer,
                    old_version=older,
                    reason=known + sentence(found.refusal, found.doubts),
                    next_major=next_major([version, *taken]),
                )
            if {older, newer} in steps and is_patch(older, newer) and not (found := pair.forward()).proved():
                raise DishonestVersion(
                    contract=name,
                    version=newer,
                    old_version=older,
                    reason=known + sentence(found.refusal, found.doubts),
                    next_minor=next_minor(version, taken),
                )


def _side(version: str, admitted: _Admitted) -> Side:
    return Side(version, admitted.schema, admitted.encoded, DRAFT, admitted.validator)


def _check_name(name: str, version: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadDeclaration(
            what=f"contract {name!r}", problem="that is no contract name", remedy="Use dotted lower-case words, as in invoice.request."
        )
    parse(version)


def _encoded(name: str, version: str, schema: Any) -> bytes:
    """The schema's bytes with sorted keys: what decides whether two contents are the same."""
    try:
        return encode(schema)
    except (TypeError, ValueError) as error:
        raise InvalidSchema(contract=name, version=version, pointer="/", problem=str(error)) from None


def _compiled(name: str, version: str, schema: Any, encoded: bytes) -> jsonschema_rs.Validator:
    """The validator of a schema that is valid, of our dialect and complete in itself."""
    if not isinstance(schema, dict):
        raise InvalidSchema(contract=name, version=version, pointer="/", problem="a contract is a JSON object")
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        raise InvalidSchema(
            contract=name, version=version, pointer="/$schema", problem=f"{schema['$schema']} is another dialect than {DIALECT}"
        )
    found = _validator(encoded)
    if isinstance(found, Problem):
        raise InvalidSchema(contract=name, version=version, pointer=found.pointer, problem=found.words)
    if isinstance(found, str):
        raise RemoteReference(contract=name, version=version, ref=found)
    return found


@lru_cache(maxsize=1024)
def _validator(encoded: bytes) -> jsonschema_rs.Validator | Problem | str:
    """The validator of a schema, what is wrong with it, or what it refers to outside itself: everyone looks at the same few."""
    schema = decode(encoded)
    try:
        flaw: SchemaError | None = best_match(MetaSchema(MetaSchema.META_SCHEMA).iter_errors(schema))
    except RecursionError:
        return Problem("/", "it is nested too deeply")
    if flaw is not None:
        return Problem(pointer(flaw.absolute_path), flaw.message[:300])
    if ref := outside(schema):
        return ref
    try:
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=False, offline=True)
    except jsonschema_rs.ValidationError as error:
        return Problem(pointer(error.instance_path), error.message)
    except ValueError as error:
        return Problem("/", str(error))


def _explained(admitted: _Admitted, value: Any) -> Problem:
    return explain(admitted.validator, value) or Problem("/", "it does not satisfy the schema")
