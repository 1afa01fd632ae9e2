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

BAD_INPUT = (
    errors.BadDeclaration,
    errors.BudgetRaised,
    errors.InvalidMessage,
    errors.NotReceived,
    errors.RetentionTooShort,
    errors.InvalidSchema,
    errors.NoCheckpoints,
    errors.NoLedger,
    errors.NoModel,
    errors.NotARepository,
    errors.UnknownAgent,
    errors.UnknownContract,
    errors.UnknownItem,
    errors.UnknownLetter,
    errors.UnknownTask,
    errors.UnknownTaskType,
)
"""What whoever typed the command can put right in the command or its surroundings; any other `InterlockError` is a no of the bus."""


class Cli(click.Group):
    """The group of all commands; it turns every error into its sentence and its exit code."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        try:
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
        except Exception as error:  # noqa: BLE001 - the last resort: no traceback ever reaches a user who did not ask for it
            _say(_broken(error))
            code = BROKEN
        sys.exit(code or 0)


def _say(text: str) -> None:
    click.echo(one_line(text), err=True)


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
    return f"Interlock itself broke: {type(error).__name__}: {error}. {where}; please report it."
