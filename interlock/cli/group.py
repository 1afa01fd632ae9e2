"""How every command ends: done is 0; a no, a refusal or a failure 1; bad usage or bad input 2; interrupted 130; broken 70.

What went wrong is one sentence on stderr that says what to do next. A traceback is for those who look for it: it is kept in a log, and
printed only with `INTERLOCK_DEBUG=1`.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from interlock.cli.output import one_line
from interlock.schemas import errors
from interlock.settings import home

REFUSED, USAGE, BROKEN, INTERRUPTED = 1, 2, 70, 130

_HEAD, _TAIL = 2000, 500
"""Characters of a sentence that are printed, where it has more: of its beginning and of its end."""
_QUOTED = 100

BAD_INPUT = (
    errors.BadDeclaration,
    errors.BadSchema,
    errors.BudgetRaised,
    errors.InvalidMessage,
    errors.NotReceived,
    errors.RetentionTooShort,
    errors.InvalidSchema,
    errors.RemoteReference,
    errors.NoCheckpoints,
    errors.NoLedger,
    errors.NoModel,
    errors.NotARepository,
    errors.UnknownAgent,
    errors.UnknownContract,
    errors.UnknownItem,
    errors.UnknownLetter,
    errors.UnknownReplica,
    errors.UnknownTask,
    errors.UnknownTaskType,
)
"""What whoever typed the command can put right in the command or its surroundings; any other `InterlockError` is a no of the bus."""


class Cli(click.Group):
    """The group of all commands; it turns every error into its sentence and its exit code."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        words = sys.argv[1:] if args is None else args
        try:
            _check_text(words)
            code = super().main(args, prog_name or self.name, **extra)
        except errors.InterlockError as error:
            _say(str(error))
            code = USAGE if isinstance(error, BAD_INPUT) else REFUSED
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = USAGE
        except click.UsageError as error:
            help_of = f" `{error.ctx.command_path} --help` says how." if error.ctx is not None else ""
            _say(error.format_message().rstrip(".") + "." + help_of)
            code = USAGE
        except click.ClickException as error:
            _say(error.format_message())
            code = error.exit_code
        except click.Abort:
            code = INTERRUPTED
        except OSError as error:
            _say(_unusable(error) or _broken(error))
            code = REFUSED if _unusable(error) else BROKEN
        except Exception as error:  # noqa: BLE001 - the last resort: no traceback ever reaches a user who did not ask for it
            _say(_broken(error))
            code = BROKEN
        sys.exit(code or 0)


def _check_text(words: Sequence[str]) -> None:
    """Refuse what is no text: Ray notes the whole command line as text, and whatever is recorded is text."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = one_line(word, _QUOTED)
            raise click.UsageError(f"'{shown}' is not text in UTF-8. Nothing was done; use words and names of files that are") from None


def _unusable(error: OSError) -> str:
    """A file or folder that was named, or that INTERLOCK_HOME names, and cannot be used; empty where it is something else."""
    if error.filename is None or error.strerror is None:
        return ""
    return (
        f"{_middle(str(error.filename))} cannot be used: {error.strerror}. Nothing was done with it; name another one, or see to this one."
    )


def _say(text: str) -> None:
    click.echo(one_line(_middle(text)), err=True)


def _middle(text: str) -> str:
    """A long text without its middle: what happened stands at its beginning, what to do at its end."""
    left_out = len(text) - _HEAD - _TAIL
    return text if left_out <= 0 else f"{text[:_HEAD]}… ({left_out} characters left out) …{text[-_TAIL:]}"


def _broken(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    if os.environ.get("INTERLOCK_DEBUG") == "1":
        click.echo(text, err=True)
    log = (home() if home().is_dir() else Path(tempfile.gettempdir())) / "interlock-cli.log"
    try:
        with log.open("a") as file:
            file.write(text)
        where = f"The traceback is in {log}"
    except OSError as problem:
        where = f"No log could be written ({problem}); INTERLOCK_DEBUG=1 prints the traceback"
    told = str(error).strip().splitlines()
    said = told[-1 if "Traceback" in str(error) or type(error).__name__.startswith("RayTaskError") else 0] if told else "no words"
    return f"Interlock itself broke: {type(error).__name__}: {said}. {where}; please report it."
