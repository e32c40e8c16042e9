"""Measures this checkout's lightkit against another checkout's, such as a worktree of an earlier commit, in one run.

    git worktree add ../before COMMIT
    python benchmarks/versus.py ../before [--only bare everything ...] [--rounds 7] [--quick]

One process a checkout, which take turns; both do the jobs of this checkout's benchmarks/steps.py. The ratio is the
median over the rounds of new to old in the same round; the one to the hand-written loop of the same process stands
beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("bare", "everything", "validation", "epochs", "accumulate")


class Worker:
    """A process that does jobs with one checkout's lightkit, one at a time."""

    def __init__(self, checkout: Path, quick: bool):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", *(["--quick"] if quick else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
        )

    def ask(self, maker: str, job: str) -> dict[str, Any]:
        """Seconds of one run of a job, and a digest of what it ended with."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([maker, job]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{job}: the process ended, see its error above")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """No more jobs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(quick: bool) -> None:
    """Do what is asked for on standard input, until it ends."""
    import hashlib

    import torch

    import lightkit  # the checkout's, which stands first on the path; what follows is this one's

    sys.path[:0] = [str(ROOT)]
    print(f"{Path(str(lightkit.__file__)).parent}: {lightkit.__version__}", file=sys.stderr, flush=True)

    from benchmarks import ours, raw, steps
    from benchmarks.harness import run_once

    torch.set_num_threads(1)
    jobs, makers = {job.name: job for job in steps.jobs(quick)}, {"raw": raw.raw, "lightkit": ours.lightkit}
    for line in sys.stdin:
        maker, name = json.loads(line)
        seconds, found = run_once(makers[maker], jobs[name])
        ends = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in found)).hexdigest()
        print(json.dumps({"seconds": seconds, "ends": ends}), flush=True)


def measure(name: str, old: Worker, new: Worker, rounds: int) -> dict[str, Any]:
    """Ratios of one job, after one run of each that is not counted."""
    makers = ("lightkit", "raw")
    ends = {(worker is new, maker): worker.ask(maker, name)["ends"] for worker in (old, new) for maker in makers}
    ratios, to_raw = [], {False: list[float](), True: list[float]()}
    for index in range(rounds):
        seconds: dict[tuple[bool, str], float] = {}
        for worker in (old, new) if index % 2 == 0 else (new, old):
            for maker in makers:
                seconds[worker is new, maker] = worker.ask(maker, name)["seconds"]
        ratios.append(seconds[True, "lightkit"] / seconds[False, "lightkit"])
        for is_new, found in to_raw.items():
            found.append(seconds[is_new, "lightkit"] / seconds[is_new, "raw"])
    return {
        "name": name, "new_to_old": statistics.median(ratios), "old_to_raw": statistics.median(to_raw[False]),
        "new_to_raw": statistics.median(to_raw[True]), "is_equal": len(set(ends.values())) == 1,
    }  # fmt: skip


def main() -> int:
    """1 where one of them ended with other values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS), help="beginnings of names of workloads")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.quick)
        return 0
    if args.other is None or not (args.other / "lightkit").is_dir():
        parser.error("give the folder of another checkout")
    sys.path[:0] = [str(ROOT)]
    from benchmarks import steps

    names = [job.name for job in steps.jobs(args.quick) if job.name.startswith(tuple(args.only))]
    old, new = Worker(args.other.resolve(), args.quick), Worker(ROOT, args.quick)
    print(f"{'workload':24} new/old  old/raw  new/raw", flush=True)
    rows = []
    for name in names:
        rows.append(row := measure(name, old, new, args.rounds))
        end = "" if row["is_equal"] else "  ends with other values"
        figures = "  ".join(f"{row[key]:7.3f}" for key in ("new_to_old", "old_to_raw", "new_to_raw"))
        print(f"{name:24} {figures}{end}", flush=True)
    old.end()
    new.end()
    return 0 if all(row["is_equal"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
