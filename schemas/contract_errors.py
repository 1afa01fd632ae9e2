"""Errors of contracts: a version that is no schema, breaks somebody, or has the wrong number.

Part of the tree in `errors.py`, from where everybody imports them.
"""

from interlock.schemas.error import Refused


class UnknownContract(Refused):
    code = "unknown_contract"
    template = "No contract {contract} {version} is registered. Known: {known}. Register it, or name one of these."


class InvalidSchema(Refused):
    code = "invalid_schema"
    template = "{contract} {version} is not a valid JSON Schema: at {pointer}: {problem}. It was not registered; correct the schema."


class BadSchema(Refused):
    code = "bad_schema"
    template = "The {which} schema cannot be compared: at {pointer}: {problem}. Correct it, and compare again."


class RemoteReference(Refused):
    code = "remote_reference"
    template = "{contract} {version} refers to {ref}, which lies outside the schema. The bus never fetches a schema; copy the definition under $defs."


class ContractConflict(Refused):
    code = "contract_conflict"
    template = "{contract} {version} is already registered with other content. A published version never changes; register it as {next_version} or higher."


class FrozenDiffers(Refused):
    code = "frozen_differs"
    template = "{contract} {version} is frozen in {file} with other content. A published version never changes: declare it as {next_version} or higher, or remove the file if nobody has it yet."


class DishonestVersion(Refused):
    code = "dishonest_version"
    template = "{contract} {version} is a patch of {old_version} by its number, and accepts more: {reason}. Nothing was registered; register it as {next_minor} or higher."


class IncompatibleContract(Refused):
    code = "incompatible_contract"
    template = "{contract} {version} is not compatible with {old_version}: {reason}. Nothing was registered; keep accepting what {old_version} accepts, or register it as {next_major}."
