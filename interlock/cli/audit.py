"""Commands that prove what the ledger says; they read it where it is kept and need no bus."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli import output
from interlock.cli.inputs import Named, NewFile
from interlock.schemas.places import Place, place_of
from interlock.settings import checkpoint_place, home, ledger_of

if TYPE_CHECKING:
    from interlock.orchestrator.ledger.notes import PublicKey
    from interlock.orchestrator.ledger.signed import History, Signed

ledger_option = click.option(
    "--ledger", metavar="PLACE", type=Named(), help="The ledger's file, or the URL of its database. [default: that of INTERLOCK_HOME]"
)
checkpoints_option = click.option(
    "--checkpoints",
    "place",
    metavar="PLACE",
    type=Named(),
    help="Checkpoints that lie elsewhere too: a file, or an http(s) URL that answers with them. [default: INTERLOCK_CHECKPOINTS]",
)
key_option = click.option(
    "--key", metavar="NAME+ID+KEY", help="The public key that signed them, as you noted it. [default: checkpoint.pub beside the ledger]"
)


@click.group()
def audit() -> None:
    """Prove what the ledger says."""


@audit.command()
@ledger_option
@checkpoints_option
@key_option
@click.option("--refold", is_flag=True, help="Prove too that all that is shown of tasks follows from the entries.")
@output.json_option
def verify(ledger: str | None, place: str | None, key: str | None, refold: bool, as_json: bool) -> None:
    """Prove that the ledger is intact: no entry was changed, removed or moved, none is missing at its end, none was rewritten.

    The chain of hashes in the ledger shows the first three, checkpoints the others: they are signed and lie outside it. For entries after
    the last checkpoint only the chain vouches. It works beside a running bus and without one. The exit code is 1 where the ledger is
    damaged or a checkpoint is forged; the first bad entry is named.
    """
    from interlock.orchestrator.ledger.stores import open_reader
    from interlock.schemas.errors import CheckpointDamaged, LedgerDamaged

    path = place_of(ledger) if ledger else ledger_of(home())
    reader = open_reader(path)
    try:
        signed = _signed(path, place, key)
        number = reader.verify(signed.heads, refold)
        if signed.bad is not None:
            raise signed.bad
    except (LedgerDamaged, CheckpointDamaged) as damaged:
        if as_json:
            problem = damaged.problem if isinstance(damaged, LedgerDamaged) else str(damaged)
            output.as_json({"intact": False, "ledger": str(path), "entry": damaged.seq, "problem": problem})
        raise
    finally:
        reader.close()
    if as_json:
        found = {"entries": number, "signed": signed.size, "checkpoints": signed.many, "refolded": refold}
        output.as_json({"intact": True, "ledger": str(path), **found})
    else:
        click.echo(f"ledger intact: {number} entries, {_vouched(signed)}{', shown as they tell' if refold else ''}")


def _vouched(signed: "Signed") -> str:
    many = signed.many
    if not many:
        return "none of them signed: that the end was cut off or all was rewritten would not show"
    return f"the first {signed.size} signed in {many} checkpoint{'' if many == 1 else 's'}"


@audit.command()
@click.argument("file", metavar="FILE", type=NewFile())
@ledger_option
@checkpoints_option
@key_option
@click.option("--sealed", is_flag=True, help="Leave out what tasks said; what happened is all there.")
@output.json_option
def export(file: Path, ledger: str | None, place: str | None, key: str | None, sealed: bool, as_json: bool) -> None:
    """Write all entries as stored, the checkpoints and the public key into FILE, with a program that checks them offline.

    `python -I FILE` runs it; it needs Python and the package `cryptography`, and neither a bus nor Interlock. FILE holds all that the
    ledger holds; what tasks said is in its `content.jsonl` in the clear, or the word erased or pruned. Without it, with --sealed, FILE
    needs no care when a task is erased. What is damaged is written as it is.
    """
    from interlock.orchestrator.ledger.bundle import export as write
    from interlock.orchestrator.ledger.signed import notes
    from interlock.orchestrator.ledger.stores import open_reader

    path = place_of(ledger) if ledger else ledger_of(home())
    reader = open_reader(path)
    try:
        found, trusted = _found(path, place, key)
        number = write(reader.walk, notes(found, trusted), trusted, file, None if sealed else reader.opener())
    except OSError as problem:
        raise click.FileError(str(file), problem.strerror or str(problem)) from None
    finally:
        reader.close()
    if as_json:
        output.as_json({"bundle": str(file), "entries": number, "key": str(trusted or "")})
    else:
        output.lines(f"{file}: {number} entries. `python -I {file}` checks them, on any machine with Python and cryptography.")


@audit.command()
@click.argument("seq", metavar="ENTRY", type=click.IntRange(1))
@click.option("--since", type=click.IntRange(1), metavar="SIZE", help="Prove too that nothing changed since a checkpoint of SIZE.")
@ledger_option
@checkpoints_option
@key_option
@output.json_option
def prove(seq: int, since: int | None, ledger: str | None, place: str | None, key: str | None, as_json: bool) -> None:
    """Prove one entry to somebody who has a checkpoint and no ledger.

    ENTRY is its number. The proofs are those of RFC 9162; the leaf is the entry's hash. `--json` prints them, with the entry and the newest
    checkpoint.
    """
    from interlock.orchestrator.ledger.bundle import prove as proof_of
    from interlock.orchestrator.ledger.stores import open_reader

    path = place_of(ledger) if ledger else ledger_of(home())
    reader = open_reader(path)
    try:
        proof = proof_of(reader, _signed(path, place, key), seq, since)
    finally:
        reader.close()
    if as_json:
        output.as_json(proof)
        return
    click.echo(f"entry {seq} is in the checkpoint of {proof['size']} entries: {_hashes(proof['inclusion'])}")
    if since is not None:
        click.echo(f"that checkpoint continues the one of {since} entries: {_hashes(proof['since']['consistency'])}")


def _hashes(path: list[str]) -> str:
    return "1 hash proves it" if len(path) == 1 else f"{len(path)} hashes prove it"


def _found(ledger: Place, place: str | None, key: str | None) -> "tuple[list[History], PublicKey | None]":
    """The histories of a ledger and the key that counts, from its folder; of one in a database, from that of its bus. A URL that the bus
    posts to may answer nobody: it is read where it is named."""
    from interlock.orchestrator.ledger.signed import histories, public_key

    kept = checkpoint_place()
    places = [place] if place else [kept] if kept and "://" not in kept else []
    folder = ledger.parent if isinstance(ledger, Path) else home()
    return histories(folder, places), public_key(folder, key)


def _signed(ledger: Place, place: str | None, key: str | None) -> "Signed":
    from interlock.orchestrator.ledger.signed import signed
    from interlock.schemas.errors import NoCheckpoints

    found, trusted = _found(ledger, place, key)
    if place:
        named = signed([one for one in found if one.place == place], trusted)
        if not named.heads and named.bad is None:
            raise NoCheckpoints(place=place, problem="there is none of this ledger in it")
    return signed(found, trusted)
