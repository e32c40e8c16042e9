"""Measures lightkit against hand-written loops and against its peers, where they are installed.

make bench, or: python benchmarks/run.py [--only NAME ...] [--quick] [--long] [--rounds N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts its threads
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402

from benchmarks import async_checkpoint, growth, import_time, ours, peers, raw, report, scaling, steps  # noqa: E402
from benchmarks.harness import measure  # noqa: E402
from benchmarks.jobs import Maker  # noqa: E402


def arguments() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="workloads whose name begins with one of these")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, 3 rounds, writes nothing")
    parser.add_argument("--long", action="store_true", help="memory growth over 200,000 steps too")
    parser.add_argument("--rounds", type=int, help="default 7, or 3 with --quick")
    parser.add_argument("--no-peers", action="store_true", help="lightkit and the hand-written loops alone")
    parser.add_argument("--out", type=Path, help="folder to write to; default docs/ for a whole run, else none")
    parser.add_argument("--list", action="store_true", help="print the names of the workloads")
    return parser.parse_args()


def main() -> int:
    """Run what is asked for; 1 where lightkit ended with other weights than the hand-written loop."""
    args = arguments()
    torch.set_num_threads(1)
    rounds = args.rounds or (3 if args.quick else 7)
    makers: dict[str, Maker] = {"raw": raw.raw, "sliced": raw.sliced, "lightkit": ours.lightkit}
    if not args.no_peers:
        makers.update(peers.installed())
    wanted = Chosen(args.only, args.list)
    figures: dict[str, Any] = {"machine": report.machine(), "rounds": rounds, "date": str(date.today())}
    if not args.list:
        print(", ".join(f"{name} {value}" for name, value in figures["machine"].items()))
    figures["steps"] = _steps(args.quick, makers, rounds, wanted)
    figures["scaling"] = _scaling(args.quick, makers, rounds, wanted)
    if wanted("import_time"):
        figures["import_time"] = import_time.measure(rounds=rounds, with_lightning="Lightning" in makers)
        for name, row in figures["import_time"].items():
            print(f"{name:45} {row['seconds']:.3f} s  beyond {row['beyond_ms']:.0f} ms", flush=True)
    if wanted("async_checkpoint"):
        figures["async_checkpoint"] = async_checkpoint.measure()
        report.show(async_checkpoint.table(figures["async_checkpoint"]))
    if wanted("growth"):
        counts = [2_000] if args.quick else [20_000, 200_000] if args.long else [20_000]
        figures["growth"] = [growth.measure(count) for count in counts]
        for row in figures["growth"]:
            print("growth: " + ", ".join(f"{name} {value:,.1f}" for name, value in row.items()), flush=True)
    out = args.out or (None if args.quick or args.only or args.list else ROOT / "docs")
    if out is not None:
        report.write(figures, out)
        print(f"written: {out / 'benchmarks.md'}")
    wrong = [r["name"] for r in _all_results(figures) if not r["is_equal"]]
    if wrong:
        print(f"lightkit ends with other values than the hand-written loop in: {', '.join(wrong)}")
    return 1 if wrong else 0


class Chosen:
    """Which workloads were asked for by name."""

    def __init__(self, prefixes: list[str], only_lists: bool):
        self.prefixes, self.only_lists = prefixes, only_lists

    def __call__(self, name: str) -> bool:
        is_wanted = not self.prefixes or name.startswith(tuple(self.prefixes))
        if is_wanted and self.only_lists:
            print(name)
        return is_wanted and not self.only_lists


def _steps(quick: bool, makers: dict[str, Maker], rounds: int, wanted: Chosen) -> list[dict[str, Any]]:
    found = []
    for job in steps.jobs(quick):
        if wanted(job.name):
            result = measure(job, makers, rounds=rounds).as_dict()
            found.append(result)
            report.show(report.table([result]))
    return found


def _scaling(quick: bool, makers: dict[str, Maker], rounds: int, wanted: Chosen) -> list[dict[str, Any]]:
    found = []
    counting = {name: makers[name] for name in makers if name not in ("sliced", "Fabric", "Accelerate")}
    for group in scaling.jobs(quick):
        if wanted(group[0].name.split("_")[0]):
            results, summary = scaling.measure_group(group, counting, rounds=rounds)
            found.append({**summary, "results": [r.as_dict() for r in results]})
            report.show(report.table(found[-1]["results"]))
            each = ", ".join(f"{name} {value:.2f}" for name, value in summary["us_each"].items())
            print(f"each one more, us: {each}", flush=True)
    return found


def _all_results(figures: dict[str, Any]) -> list[dict[str, Any]]:
    return figures["steps"] + [r for group in figures["scaling"] for r in group["results"]]


if __name__ == "__main__":
    sys.exit(main())
