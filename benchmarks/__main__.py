"""`make bench`: measures, prints a table, writes `benchmarks/results.json`, and ends with 1 where a mark is not reached."""

import asyncio
import json
import platform
import sys
from pathlib import Path

import ray

from benchmarks import hops
from benchmarks.figures import MARKS, missed, published

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    results = published(asyncio.run(hops.measure()))
    results["machine"] = {"python": platform.python_version(), "ray": ray.__version__, "processor": platform.machine()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for name, value in results.items():
        if isinstance(value, float):
            print(f"{name:20} {value:12.2f}" + (f"   mark: {MARKS[name]}" if name in MARKS else ""))
    for size, rate in results["hops_per_s_by_tasks"].items():
        print(f"{'hops/s, ' + size + ' tasks':20} {rate:12.2f}")
    short = missed(results)
    for sentence in short:
        print(f"Below the mark: {sentence}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
