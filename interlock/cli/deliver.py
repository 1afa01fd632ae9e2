"""The two commands that put the delivery team to work: `demo` on a small project with a bug, `deliver` on a repository of yours."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli import output
from interlock.cli.group import REFUSED
from interlock.cli.inputs import Limits

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.cli.answers import Answerer
    from interlock.cli.delivery_run import Order

YES = "Let a policy approve the commit; it says no to every question of the team."
SCRIPTED = """The model in this demo is scripted: a server on this machine that answers from a playbook and costs nothing.
All else is real: the repository and its bug, the tests, the sandbox, the commit, the ledger."""


@click.command()
@click.option("--yes", is_flag=True, help=YES)
@click.option(
    "--extra-failing-test", is_flag=True, help="Add a test that the playbook's diffs do not satisfy: the team ends in a question."
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to put repository and ledger. [default: a new temporary folder]",
)
@output.json_option
def demo(yes: bool, extra_failing_test: bool, keep: Path | None, as_json: bool) -> None:
    """Watch the delivery team fix a real bug in a small repository, with a scripted model.

    Planning makes a plan, coding a diff that fails its tests, then one that passes; you approve the commit. Without a terminal a policy
    does. Repository and ledger stay where they are when it ends. Exit code 0 only if the task ends in success.
    """
    import tempfile

    from interlock.actors.team.contracts import DeliveryRequest
    from interlock.cli.delivery_run import Order
    from interlock.delivery import make_app
    from interlock.delivery_example import GOAL, make_repository, playbook
    from interlock.settings import ModelSettings
    from interlock.testing.scripted_model import ScriptedModel
    from interlock.tools.sandbox import choose

    on_terminal = _is_terminal(as_json)
    place = (keep or Path(tempfile.mkdtemp(prefix="interlock-demo-"))).absolute()
    repository = place / "splitbill"
    make_repository(repository, extra_failing_test)
    app = make_app(unsafe=True)  # its diffs ship with it
    again = "interlock demo" if extra_failing_test else "interlock demo --extra-failing-test"
    with ScriptedModel.start(playbook()) as model:
        _run(
            Order(
                app=app,
                request=DeliveryRequest(repository=str(repository), goal=GOAL),
                model=ModelSettings(base_url=model.base_url, api_key="scripted", model="scripted-1"),
                folder=place / "bus",
                answerer=_answerer(app, yes=yes, on_terminal=on_terminal, as_json=as_json),
                on_terminal=on_terminal,
                as_json=as_json,
                before=(SCRIPTED, f"Sandbox: {choose(unsafe=True).describe()}", f"Repository: {repository}"),
                after=(again, "interlock deliver --repo PATH --goal TEXT, with a model and a repository of yours"),
            )
        )


@click.command()
@click.option("--repo", required=True, type=click.Path(path_type=Path), metavar="PATH", help="A git repository with at least one commit.")
@click.option("--goal", required=True, metavar="TEXT", help="What to change, as you would tell a colleague.")
@click.option(
    "--branch", default="interlock/staging", show_default=True, metavar="NAME", help="The branch to commit to; made if there is none."
)
@click.option(
    "--test-command", default="", metavar="CMD", help="How the tests are run. [default: found out from what the repository holds]"
)
@click.option("--yes", is_flag=True, help=YES)
@click.option("--unsafe-exec", is_flag=True, help="Accept that code written by a model runs without a sandbox, where none works.")
@click.option("--budget", type=Limits(), help="Lower the limits, as in tokens=100000,usd=0.50. [default: 400000 tokens, 200 steps, 1800 s]")
@output.json_option
def deliver(
    repo: Path, goal: str, branch: str, test_command: str, yes: bool, unsafe_exec: bool, budget: dict[str, str] | None, as_json: bool
) -> None:
    """Have the delivery team work on a repository of yours, on a branch of its own.

    The team plans, writes diffs, runs the project's tests on each in a sandbox and commits what passed, once you approve it. Your
    working tree, index and HEAD are never touched. The model is what INTERLOCK_MODEL, OPENAI_API_KEY and OPENAI_BASE_URL say. The ledger is
    kept in a folder of its own below INTERLOCK_HOME. Exit code 0 only if the task ends in success.

    \b
    Example:
      interlock deliver --repo . --goal "Dates in March are one day off in the report" --budget usd=0.50
    """
    from interlock.actors.team.contracts import DeliveryRequest
    from interlock.cli import delivery_run
    from interlock.delivery import make_app
    from interlock.schemas.budget import asked_amounts, lowered
    from interlock.settings import ModelSettings
    from interlock.tools.sandbox import choose

    model = ModelSettings.from_env().required()
    if not goal.strip():
        raise click.BadParameter("it is empty; say what to change", param_hint="'--goal'")
    _check_command(test_command)
    request = DeliveryRequest(repository=str(repo.absolute()), goal=goal.strip(), branch=branch, test_command=test_command)
    delivery_run.check(request)
    on_terminal = _is_terminal(as_json)
    if not yes and not on_terminal:
        raise click.UsageError("nobody is at a terminal to approve the commit. Give --yes to let a policy approve it")
    sandbox = choose(unsafe=unsafe_exec)
    app = make_app(unsafe=unsafe_exec)
    lowered(app.workflows["software_delivery"].spec.limits, asked_amounts(budget or {}))
    _run(
        delivery_run.Order(
            app=app,
            request=request,
            model=model,
            folder=_new_folder(),
            answerer=_answerer(app, yes=yes, on_terminal=on_terminal, as_json=as_json),
            on_terminal=on_terminal,
            as_json=as_json,
            limits=budget,
            before=(f"Model: {model.model}", f"Sandbox: {sandbox.describe()}"),
        )
    )


def _run(order: "Order") -> None:
    """Deliver, report, and end with 0 only on success."""
    from interlock.cli import delivery_run

    report = delivery_run.deliver(order)
    delivery_run.tell(report)
    if not report.success:
        click.get_current_context().exit(REFUSED)


def _answerer(app: "App", *, yes: bool, on_terminal: bool, as_json: bool) -> "Answerer":
    """Who decides: the person at the terminal, unless told otherwise or nobody is there."""
    from interlock.cli.answers import Person, Policy

    if yes:
        return Policy("--yes")
    return Person(app, on_stderr=as_json) if on_terminal else Policy("no terminal")


def _is_terminal(as_json: bool) -> bool:
    """Whether a person sees what is told and can answer."""
    return sys.stdin.isatty() and (sys.stderr if as_json else sys.stdout).isatty()


def _check_command(command: str) -> None:
    try:
        shlex.split(command)
    except ValueError as error:
        raise click.BadParameter(f"{command!r} is no command: {error}", param_hint="'--test-command'") from None


def _new_folder() -> Path:
    """A folder for one delivery's ledger. It may lie in the very repository that is worked on, so git is told to overlook it."""
    from interlock.schemas.ids import fresh
    from interlock.settings import home

    home().mkdir(parents=True, exist_ok=True)
    ignored = home() / ".gitignore"
    if not ignored.exists():
        ignored.write_text("*\n")
    return home() / "deliveries" / fresh("run")
