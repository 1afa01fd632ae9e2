"""Plays storms in as many processes as there are processors, and says of each that broke a law how it is played again.

python tests/simulation/storming.py 2000                # the seeds 0 to 1999
python tests/simulation/storming.py 7..8                # the seed 7 alone
python tests/simulation/storming.py 0..0 --mutants      # bugs that are planted on purpose: which law notices which
python tests/simulation/storming.py --minutes 10        # other seeds every time, for ten minutes
"""

import argparse
import gc
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
AGAIN = "python tests/simulation/storming.py {seed}..{after}"
TOGETHER = 25
"""Storms between two collections of garbage: it is the most costly thing that a short storm does."""
HURRY = 300.0
"""Seconds that a storm with a planted bug, which may never end, is given."""
CAUGHT_WITHIN = 250
"""Storms in which a planted bug must have been noticed."""

Told = dict[str, Any]


# --- in a worker -------------------------------------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """Without what a storm spends most on, and without the words of those who die in it."""
    hook, were = sys.unraisablehook, logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None  # what dead actors leave behind is collected with them
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
        gc.collect()
        sys.unraisablehook = hook
        logging.disable(were)


def play_all(seeds: Iterable[int]) -> Told:
    """Play these storms here: how their tasks ended, the digest of each, and what went wrong."""
    from laws import judge

    outcomes: Counter[str] = Counter()
    digests: dict[int, str] = {}
    failed: dict[int, str] = {}
    for number, seed in enumerate(seeds, 1):
        try:
            run = judge(seed)
        except BaseException:  # noqa: BLE001 - whatever a storm ends with is told by its seed
            failed[seed] = traceback.format_exc(limit=-6)
        else:
            outcomes.update(run.outcomes.values())
            digests[seed] = run.digest
        if number % TOGETHER == 0:
            gc.collect()
    return {"outcomes": outcomes, "digests": digests, "failed": failed}


def plant(name: str) -> list[str]:
    """Plant one bug and play storms until the law that speaks of it is broken: the laws that were, none where it is not noticed."""
    import pytest
    from laws import LawBroken, judge
    from mutants import MUTANTS, SHOWN_BY

    mutant, law = MUTANTS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storms.PATIENCE", HURRY)
        patch.setattr("storms.LIMIT", 4 * HURRY)
        mutant(patch)
        for seed in (SHOWN_BY.get(name, 0), *range(CAUGHT_WITHIN)):
            try:
                judge(seed)
            except LawBroken as broken:
                if law in broken.laws:
                    return [f"seed {seed}", *broken.laws]
            except BaseException:  # noqa: BLE001 - a bug may end a storm in any way; what counts is the law
                continue
            finally:
                if seed % TOGETHER == 0:
                    gc.collect()
    return []


def work(chosen: argparse.Namespace) -> Told:
    """This worker's share."""
    from mutants import MUTANTS

    # Only the one who asked is interrupted from the keyboard; asyncio then does without a handler of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    one, count = map(int, chosen.share.split("/"))
    told = play_all(_until(time.monotonic() + 60 * chosen.minutes) if chosen.minutes else chosen.seeds[one::count])
    return {**told, "mutants": {name: plant(name) for name in list(MUTANTS)[one::count]} if chosen.mutants else {}}


def _until(deadline: float) -> Iterator[int]:
    seed = secrets.randbelow(10**9)
    while time.monotonic() < deadline:
        yield seed
        seed += 1


# --- who asks them -----------------------------------------------------------------------------------------------------------------


class Workers:
    """Processes that play storms, each its share, as many as there are processors."""

    def __init__(self, *arguments: str, count: int | None = None, **environment: str) -> None:
        count = count or os.cpu_count() or 1
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        self._running = [
            subprocess.Popen([*command, "--share", f"{one}/{count}"], cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE)
            for one in range(count)
        ]

    def told(self) -> Told:
        """What all of them say together, once they have ended."""
        told: Told = {"outcomes": Counter(), "digests": {}, "failed": {}, "mutants": {}}
        for process in self._running:
            said, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"a worker ended with {process.returncode}")
            for part, value in json.loads(said).items():
                told[part].update(value)
        return told

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def summary(told: Told) -> str:
    """In words: what went wrong first, with the command that plays it again."""
    lines = [f"{len(told['digests'])} storms went well, {len(told['failed'])} did not: {dict(told['outcomes'])}"]
    for seed, problem in sorted(told["failed"].items(), key=lambda item: int(item[0]))[:10]:
        lines += ["", AGAIN.format(seed=seed, after=int(seed) + 1), problem]
    lines += [f"{name}: {', '.join(laws) or 'NOT NOTICED'}" for name, laws in told.get("mutants", {}).items()]
    return "\n".join(lines)


def span(text: str) -> range:
    """So many seeds, or those from the first to before the end; `ValueError` for what is neither."""
    first, _, end = text.rpartition("..")
    return range(int(first or 0), int(end))


def main() -> int:
    parser = argparse.ArgumentParser(description="Play storms.")
    parser.add_argument("seeds", nargs="?", type=span, default="100", help="how many, or FIRST..END")
    parser.add_argument("--minutes", type=float, help="other seeds every time, for so long")
    parser.add_argument("--mutants", action="store_true", help="plant bugs, and say which laws notice them")
    parser.add_argument("--share", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.share is not None:
        with quiet():
            json.dump(work(chosen), sys.stdout)
        return 0
    workers = Workers(*sys.argv[1:])
    try:
        told = workers.told()
    finally:
        workers.end()
    sys.stdout.write(summary(told) + "\n")
    return 1 if told["failed"] or not all(told["mutants"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
