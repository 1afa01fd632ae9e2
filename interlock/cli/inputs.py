"""What commands take beyond plain words: a request as JSON, and limits as METER=AMOUNT."""

import re
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

_METERS = "tokens, steps, seconds, usd or writes/SYSTEM"
_METER = re.compile(r"tokens|steps|seconds|usd|writes/.+")


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
    try:
        return Path(text[1:]).read_bytes(), text[1:]
    except OSError as error:
        raise click.BadParameter(f"{text[1:]} cannot be read: {error.strerror}") from None


class Limits(click.ParamType[dict[str, str]]):
    """`tokens=5000,usd=0.10` as limits by meter."""

    name = "METER=AMOUNT,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        limits: dict[str, str] = {}
        for part in value.split(","):
            meter, _, amount = (word.strip() for word in part.partition("="))
            if not _METER.fullmatch(meter):
                raise click.BadParameter(f"{meter!r} is no meter. Write tokens=5000,usd=0.10 with {_METERS}", ctx, param)
            if not _is_amount(meter, amount):
                kind = "a number" if meter in ("usd", "seconds") else "a whole number"
                raise click.BadParameter(f"{meter}={amount} is not {kind} of zero or more. Write tokens=5000,usd=0.10", ctx, param)
            limits[meter] = amount
        return limits


def _is_amount(meter: str, text: str) -> bool:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return False
    return amount.is_finite() and amount >= 0 and (meter in ("usd", "seconds") or (text.isascii() and text.isdigit()))
