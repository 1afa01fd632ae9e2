"""The command line: `interlock COMMAND`. Nothing heavy is imported before a command runs that needs it."""

import click

from interlock.cli.audit import audit
from interlock.cli.budget import budget
from interlock.cli.cluster import check, down, scale, status, up
from interlock.cli.contracts import contracts
from interlock.cli.dead import dead
from interlock.cli.deliver import deliver, demo
from interlock.cli.group import Cli
from interlock.cli.humans import approve, deny, inbox
from interlock.cli.ledger import ledger
from interlock.cli.stops import drill, kill, resume
from interlock.cli.tasks import erase, send, show, submit, tasks


@click.group(cls=Cli, name="interlock", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="interlock", message="interlock %(version)s")
def main() -> None:
    """Interlock: a multi-agent message bus that cannot be made to lose a task, overrun a budget, break a contract or repeat a payment.

    Start a bus with `interlock up MODULE:APP`, give it work with `interlock submit`, follow it with `interlock tasks` and `interlock show`,
    decide with `interlock inbox`, stop anything with `interlock kill`, everything with `interlock kill --everything`.

    \b
    Exit codes: 0 done, 1 refused or failed, 2 bad usage or bad input, 70 Interlock itself broke, 130 interrupted.
    Environment: INTERLOCK_HOME (files of the bus), INTERLOCK_DEBUG=1 (tracebacks), OTEL_* (where traces go),
    INTERLOCK_MODEL, OPENAI_API_KEY, OPENAI_BASE_URL, INTERLOCK_PRICES, INTERLOCK_RATES, INTERLOCK_BOUNDS (the model).
    """


for command in (
    demo,
    deliver,
    check,
    up,
    down,
    status,
    submit,
    send,
    tasks,
    show,
    budget,
    kill,
    resume,
    drill,
    erase,
    inbox,
    approve,
    deny,
    dead,
    scale,
    audit,
    ledger,
    contracts,
):
    main.add_command(command)

__all__ = ["main"]
