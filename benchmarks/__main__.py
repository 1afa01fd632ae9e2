"""`make bench`: measures, prints a table, writes `benchmarks/results.json`."""

import asyncio
import json
import platform
from pathlib import Path

import ray

from benchmarks import hops

RESULTS = Path(__file__).with_name("results.json")
MARKS = {"rate_ratio": ("at least", 2.0), "latency_ratio": ("at most", 6.0)}


def main() -> None:
    results = asyncio.run(hops.measure())
    results["machine"] = {"python": platform.python_version(), "ray": ray.__version__, "processor": platform.machine()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for name, value in results.items():
        if isinstance(value, float):
            side, mark = MARKS.get(name, ("", None))
            print(f"{name:20} {value:12.2f}" + (f"   mark: {side} {mark}" if mark is not None else ""))
    for size, rate in results["hops_per_s_by_tasks"].items():
        print(f"{'hops/s, ' + size + ' tasks':20} {rate:12.2f}")


if __name__ == "__main__":
    main()
