"""Measures this checkout's lightkit against another checkout's, such as a worktree of an earlier commit, in one run.

    git worktree add ../before COMMIT
    python benchmarks/versus.py ../before [--only bare everything ...] [--rounds 7] [--quick]

One process a checkout, which take turns; both do the jobs of this checkout's benchmarks/steps.py. Each round has two
new processes, as where a process's memory lies changes its speed by some percent, and takes the best of several runs.
The ratio is the median over the rounds of new to old in the same round; the one to the hand-written loop of the same
process stands beside it.
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
REPEATS = 3  # runs of each in a round, of which the best counts
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


def best_of(name: str, workers: dict[bool, Worker], repeats: int) -> tuple[dict[tuple[bool, str], float], bool]:
    """The least seconds by process (True: the new one) and by maker, and whether all end with the same values."""
    runs = [(is_new, maker) for is_new in workers for maker in ("lightkit", "raw")]
    ends = {workers[is_new].ask(maker, name)["ends"] for is_new, maker in runs}  # the first is not counted
    seconds = dict.fromkeys(runs, float("inf"))
    for is_new, maker in runs * repeats:
        seconds[is_new, maker] = min(seconds[is_new, maker], workers[is_new].ask(maker, name)["seconds"])
    return seconds, len(ends) == 1


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
    rows: dict[str, list[dict[tuple[bool, str], float]]] = {name: [] for name in names}
    differ: set[str] = set()
    for index in range(args.rounds):
        checkouts = {False: args.other.resolve(), True: ROOT}
        order = (False, True) if index % 2 == 0 else (True, False)
        workers = {is_new: Worker(checkouts[is_new], args.quick) for is_new in order}
        for name in names:
            seconds, is_equal = best_of(name, workers, 1 if args.quick else REPEATS)
            rows[name].append(seconds)
            if not is_equal:
                differ.add(name)
        for worker in workers.values():
            worker.end()
        print(f"round {index + 1} of {args.rounds}", file=sys.stderr, flush=True)
    print(f"{'workload':24} new/old  old/raw  new/raw")
    for name in names:
        old, new, raw = (False, "lightkit"), (True, "lightkit"), "raw"
        pairs = (new, old), (old, (False, raw)), (new, (True, raw))
        figures = [statistics.median(found[a] / found[b] for found in rows[name]) for a, b in pairs]
        print(f"{name:24} " + "  ".join(f"{figure:7.3f}" for figure in figures), end="")
        print("  ends with other values" if name in differ else "")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
