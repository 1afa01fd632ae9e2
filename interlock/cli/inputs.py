"""What commands take beyond plain words: a request as JSON, and limits as METER=AMOUNT."""

import sys
from pathlib import Path
from typing import Any

import click


class JsonText(click.ParamType[bytes]):
    """JSON from the command line, from a file (`@FILE`) or from the standard input (`-`), as bytes."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        from interlock.schemas.canonical import decode

        data, source = _read(value)
        try:
            decode(data)
        except ValueError as error:
            how = """Give an object such as '{"order_id": "7294"}', @FILE, or - for the standard input"""
            raise click.BadParameter(f"{source} is not JSON: {error}. {how}", ctx, param) from None
        return data


def _read(text: str) -> tuple[bytes, str]:
    if text == "-":
        return sys.stdin.buffer.read(), "the standard input"
    if not text.startswith("@"):
        return text.encode(errors="surrogateescape"), "it"
    if text == "@":
        raise click.BadParameter("no file is named after the @")
    try:
        return Path(text[1:]).read_bytes(), text[1:]
    except OSError as error:
        raise click.BadParameter(f"{text[1:]} cannot be read: {error.strerror}") from None


class SchemaFile(click.ParamType[Any]):
    """A JSON Schema in a file, or on the standard input (`-`)."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from interlock.schemas.canonical import decode

        data, source = _read(value if value == "-" else f"@{value}")
        try:
            return decode(data)
        except ValueError as error:
            raise click.BadParameter(f"{source} is not JSON: {error}. Give a file that holds a JSON Schema", ctx, param) from None


class Named(click.ParamType[str]):
    """A place by its name. An empty one is none: whoever passed a variable that is not set did not ask for the default."""

    name = "PLACE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            raise click.BadParameter("an empty name is none; leave the option out for the default.", ctx, param)
        return str(value)


class NewFile(click.ParamType[Path]):
    """A file that is to be made: there is nothing of that name yet, and a folder for it."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        try:
            if not value or path.exists():
                raise click.BadParameter(f"{value or 'an empty name'} exists already; give another name.", ctx, param)
            if not path.absolute().parent.is_dir():
                raise click.BadParameter(f"there is no folder {path.absolute().parent}; make it, or give another name.", ctx, param)
        except OSError as error:
            raise click.BadParameter(f"that cannot be the name of a file: {error.strerror}", ctx, param) from None
        return path


class Limits(click.ParamType[dict[str, str]]):
    """`tokens=5000,usd=0.10` as limits by meter. Raises `BadDeclaration`."""

    name = "METER=AMOUNT,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        from interlock.schemas.budget import asked_amounts

        parts = (part.partition("=") for part in value.split(","))
        limits = {meter.strip(): amount.strip() for meter, _, amount in parts}
        asked_amounts(limits)
        return limits


class Change(click.ParamType[tuple[str, str | None]]):
    """`usd=1.00` as a limit to set, `usd=none` as one to lift. Raises `BadDeclaration`."""

    name = "METER=AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str | None]:
        from interlock.schemas.budget import asked_amounts

        meter, equals, amount = str(value).partition("=")
        if not equals:
            raise click.BadParameter(f"{value} sets nothing; write METER=AMOUNT, as in usd=1.00", ctx, param)
        asked_amounts({meter: "0" if amount == "none" else amount})
        return meter, None if amount == "none" else amount
