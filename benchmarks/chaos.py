"""Kill jobs at random moments and at random file operations, start them again, and compare with the undisturbed run.

    python -m benchmarks.chaos --kills 300 [--signal TERM] [--seconds 900] [--jobs plain,workers] [--seed 0]

A job is a forked process: what is imported here is imported there. Each runs once undisturbed; then, in another folder,
it is killed one to four times, each time started with resume="auto", and left in peace at last. Equal must be: the
weights, optimizers, schedulers, generators and callbacks at the end; the rows of CSV files; the points of TensorBoard;
the set of files, and what each checkpoint holds. Prints a line for each difference, and ends with 1 where there is any.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.utils.tensorboard  # now, once, and not in each job
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightkit as lk
import recipes.vision.classification
import recipes.vision.data  # noqa: F401
from benchmarks.chaos_jobs import JOBS

END = "end.pt"
MOST_KILLS = 4  # of one job before it is left in peace
FIT_S = 120  # no job takes as long
OPERATIONS = "replace rename unlink remove fsync symlink mkdir".split()
# said of a moment, or of how often the run was started
NOT_COMPARED = re.compile(r"run\.json$|events\.out\.|before_resume|\.before_|profile|config.*\.yaml$")


# ------------------------------------------------------------ a job, in a process of its own


def run_job(name: str) -> None:
    """Fit the job in the working directory; going on where something is there to go on from."""
    torch.set_num_threads(1)
    lk.seed_everything(7, workers=True, verbose=False)
    chaos = JOBS[name]()
    given: dict[str, Any] = {
        "max_epochs": 3, "accelerator": "cpu", "run_dir": "run", "resume": "auto", "log_every_n_steps": 3,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    trainer = lk.Trainer(**{**given, **chaos.arguments})
    marker = Path("run", "run.json")
    if not (marker.exists() and json.loads(marker.read_text() or "{}").get("finished")):
        trainer.callbacks = [*trainer.callbacks, SaveEnd()]
    trainer.fit(chaos.module, chaos.train, chaos.val, chaos.datamodule)


class SaveEnd(lk.Callback):
    """Keeps the state that a fit ends with; one that is started once more when it is finished has the newest file's."""

    def on_fit_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        trainer.save_checkpoint(END)


def count_operations(at: int, is_before: bool, how: signal.Signals) -> Callable[[], int]:
    """Send this process a signal at the so many-th file operation, before or after it; -> how many there were."""
    done, lock = [0], threading.Lock()

    def counted(fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                done[0] += 1
                is_it = done[0] == at
            if is_it and is_before:
                os.kill(os.getpid(), how)
            result = fn(*args, **kwargs)
            if is_it and not is_before:
                os.kill(os.getpid(), how)
            return result

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    opened = io.open
    writing = counted(opened)

    def open_counted(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return (opened if mode.strip("bt") == "r" else writing)(file, mode, *args, **kwargs)

    io.open = open_counted  # type: ignore[assignment]
    return lambda: done[0]


def start(name: str, folder: Path, at: int = 0, is_before: bool = True, how: signal.Signals = signal.SIGKILL) -> int:
    """Start a job; -> its process. at: the file operation at which it gets the signal."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        done = count_operations(at, is_before, how)
        run_job(name)
        Path("operations").write_text(str(done()))
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """How a process ended: its exit code, or minus the signal that killed it. One that hangs is killed: -99."""
    until = time.monotonic() + FIT_S
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.003)
    os.kill(child, signal.SIGABRT)
    os.waitpid(child, 0)
    return -99


# ------------------------------------------------------------ what it leaves


def left_by(folder: Path) -> dict[str, Any]:
    """All that is to be equal, by a name."""
    found: dict[str, Any] = {"end": loaded(folder / END, folder)}
    files = sorted(p for p in folder.rglob("*") if not p.is_dir() and p.name not in ("log", "operations", END))
    kept = [p for p in files if not NOT_COMPARED.search(p.name)]
    found["files"] = [str(p.relative_to(folder)) for p in kept]
    found["links"] = {str(p.relative_to(folder)): os.readlink(p) for p in kept if p.is_symlink()}
    for path in kept:
        name = str(path.relative_to(folder))
        if path.suffix == ".ckpt":
            found[name] = loaded(path, folder)
        elif path.suffix in (".csv", ".yaml"):
            found[name] = path.read_text()
    found["points"] = points_of(folder)
    return found


def loaded(path: Path, folder: Path) -> Any:
    return without_place(torch.load(path, weights_only=True), str(folder.resolve()))


def without_place(value: Any, folder: str) -> Any:
    """The same content, wherever it was written."""
    if isinstance(value, dict):
        # "newest_file": of several files of one moment, made up as copies after a kill, any may be the one written last
        return {without_place(k, folder): without_place(v, folder) for k, v in value.items() if k != "newest_file"}
    if isinstance(value, list | tuple):
        return [without_place(item, folder) for item in value]
    return value.replace(folder, "<folder>") if isinstance(value, str) else value


def points_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by tag."""
    found: dict[str, list[tuple[int, float]]] = {}
    for place in sorted({path.parent for path in folder.rglob("events.out.*")}):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            name = f"{place.relative_to(folder)}: {tag}"
            found[name] = sorted({(event.step, event.value) for event in events.Scalars(tag)})
    return found


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Where two contents differ, as lines."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        is_score = a.dim() == 0 == b.dim()  # a score of a file is read back in double precision
        if not is_score and a.dtype != b.dtype:
            yield f"{where}: {a.dtype} is {b.dtype}"
        elif a.shape != b.shape or not torch.equal(a.nan_to_num().double(), b.nan_to_num().double()):
            yield f"{where}: tensors differ"
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() ^ b.keys():
            yield f"{where}.{key}: only in the {'whole' if key in a else 'killed'} run"
        for key in a.keys() & b.keys():
            yield from differences(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and where != ".files":
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif a != b and not (a != a and b != b):  # NaN is NaN
        yield f"{where}: {str(a)[:300]!r} != {str(b)[:300]!r}"


# ------------------------------------------------------------ kills


@dataclass
class Report:
    """What was found."""

    kills: int = 0
    runs: int = 0
    by_job: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def disturb(
    name: str, whole: dict[str, Any], operations: int, seconds: float, folder: Path, how: signal.Signals,
    rng: random.Random,
) -> tuple[int, list[str]]:  # fmt: skip
    """Run the job to its end through kills; -> how many, and what differs."""
    kills, told = 0, []
    fine = {0, -how, 128 + how} if how is signal.SIGTERM else {0, -how}
    for _ in range(rng.randint(1, MOST_KILLS)):
        is_by_operation = rng.random() < 0.6
        at = rng.randint(1, max(operations, 1)) if is_by_operation else 0
        child = start(name, folder, at, rng.random() < 0.5, how)
        if not is_by_operation:
            time.sleep(rng.uniform(0, 1.1 * seconds))
            try:
                os.kill(child, how)
            except ProcessLookupError:
                pass
        code = ended(child)
        told.append(f"operation {at}: {code}" if at else f"time: {code}")
        kills += code != 0
        if code not in fine:
            return kills, [f"{name}: ended with {code} after {told}; see {folder / 'log'}"]
        if code == 0:
            break
    else:
        code = ended(start(name, folder))
        if code != 0:
            return kills, [f"{name}: started again after {told}, it ended with {code}; see {folder / 'log'}"]
    found = list(differences(whole, left_by(folder)))
    return kills, [f"{name} after {told} in {folder}: {line}" for line in found[:6]]


def main(arguments: list[str] | None = None) -> int:
    """Run the program; -> its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no more kills after this time")
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--jobs", default="", help="names, with commas between; default: all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it says what it purges
    names, how = asked.jobs.split(",") if asked.jobs else list(JOBS), getattr(signal, f"SIG{asked.signal}")
    rng, report, began = random.Random(asked.seed), Report(), time.monotonic()
    in_memory = Path("/dev/shm")  # nothing of this outlives the machine, and a disk's fsync takes most of the time
    root = Path(tempfile.mkdtemp(prefix="lightkit-chaos-", dir=in_memory if in_memory.is_dir() else None))
    wholes: dict[str, tuple[dict[str, Any], int, float]] = {}
    rng.shuffle(names)
    while report.kills < asked.kills and time.monotonic() - began < asked.seconds:
        name = names[report.runs % len(names)]
        if name not in wholes:
            folder = root / f"{name}-whole"
            folder.mkdir()
            at = time.monotonic()
            if (code := ended(start(name, folder))) != 0:
                report.problems.append(f"{name}: undisturbed, it ended with {code}; see {folder / 'log'}")
                names.remove(name)
                print(report.problems[-1], flush=True)
                continue
            seconds = time.monotonic() - at
            wholes[name] = left_by(folder), int((folder / "operations").read_text()), seconds
        folder = root / f"{name}-{report.runs}"
        folder.mkdir()
        kills, problems = disturb(name, *wholes[name], folder, how, rng)
        report.kills, report.runs = report.kills + kills, report.runs + 1
        report.by_job[name] += kills
        report.problems += problems
        for line in problems:
            print(line, flush=True)
        if not problems:
            shutil.rmtree(folder)
    print(
        f"{report.runs} runs of {len(wholes)} kinds of jobs, {report.kills} ended by SIG{asked.signal}, in "
        f"{time.monotonic() - began:.0f} s: {len(report.problems)} differences"
    )
    if not report.problems:
        shutil.rmtree(root)
    return 1 if report.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
