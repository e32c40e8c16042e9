"""Random schedules of ModelCheckpoint, interrupted and resumed: the files at the end are those that its rules name.

    python -m benchmarks.schedules --count 300 --seed 0

Each schedule has one or two callbacks (triggers, monitor, mode, top k, last, names, folders), an accumulation, an
interval of validations, perhaps a file of the user's under a name that is wanted. It runs once undisturbed, and once
with up to three interruptions: an exception in a hook, or a death at a file operation (a rename, a deletion, a link),
after which the process does nothing more; each time it goes on from "last". Both must leave exactly the files, with the
steps in them, and the best files and scores that `Expected` finds, which knows these rules and nothing of lightkit:

- A callback is asked after a step (`every_n_train_steps`), after a validation or at the end of an epoch
  (`every_n_epochs`: at the end of the epoch where validation runs once in it or never, else after each validation).
- With a monitor, a save of a step waits for what is about to be logged for this step: the validation that follows, or
  the end of the epoch; where nothing was logged so far, for the first that comes. It saves at most once a step.
- Without a score there is no rank: `last` alone is saved, or one unranked file that a ranked one replaces.
- Kept are the newest (top 1, no monitor), all (-1), or the k best, of equal ones the earlier; NaN is the worst. `last`
  is saved each time, a link to the newest kept only with one that is kept.
- A name that is taken gets `-v1`, `-v2`, ...; what leaves its place gives its name to what takes it.
- What all callbacks do at one moment is decided before the first file is written.
- Where nothing was saved at all, the end saves what waited for a validation, or `last`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import lightkit as lk
from benchmarks.schedule_rules import Expected, Schedule, draw
from lightkit.callbacks import Callback, ModelCheckpoint

# ------------------------------------------------------------ what lightkit does


class Killed(BaseException):
    """The process is no more."""


class Net(lk.LightModule):
    """Logs what the schedule says."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.schedule = schedule

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """A loss that is no number of interest."""
        self.log("t", self.schedule.score("t", self.global_step))
        return self.layer(batch).sum() * 1e-3

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        """The score of the step before."""
        self.log("v", self.schedule.score("v", self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that needs no state."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Deaths(Callback):
    """Ends the run at the count-th hook of its own; counts, where count is 0."""

    def __init__(self, count: int = 0):
        self.count, self.calls = count, 0

    def _hook(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == self.count:
            raise Killed

    on_train_batch_start = on_train_batch_end = on_validation_start = on_validation_end = _hook
    on_train_epoch_start = on_train_epoch_end = on_train_end = on_validation_batch_end = _hook


@contextlib.contextmanager
def dying(count: int) -> Iterator[list[int]]:
    """Let the process die at the count-th operation on a checkpoint file: it and all later ones raise. 0: count."""
    names, calls = ("replace", "unlink", "symlink", "rmdir"), [0]
    before = {name: getattr(os, name) for name in names}

    def dangerous(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if "/kept/" in str(args[-1]):
                calls[0] += 1
                if 0 < count <= calls[0]:
                    raise Killed
            return original(*args, **kwargs)

        return call

    for name, original in before.items():
        setattr(os, name, dangerous(original))
    try:
        yield calls
    finally:
        for name, original in before.items():
            setattr(os, name, original)


def run(schedule: Schedule, root: Path, *, resume: bool, hook: int = 0, operation: int = 0) -> tuple[Any, int, int]:
    """Train; -> the callbacks, and how many hooks and file operations there were. Raises Killed."""
    callbacks = [rule.make(root / "kept") for rule in schedule.rules]
    deaths = Deaths(hook)
    trainer = lk.Trainer(
        max_epochs=schedule.epochs, accelerator="cpu", run_dir=root / "run", logger=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=schedule.accumulate, num_sanity_val_steps=0,
        val_check_interval=schedule.val_every or None, check_val_every_n_epoch=schedule.check_every,
        limit_val_batches=0 if schedule.val_every == 0 else None, async_checkpoint=schedule.is_async,
        callbacks=[deaths, *callbacks],
    )  # fmt: skip
    train, val = DataLoader(torch.ones(schedule.num_batches, 1)), DataLoader(torch.ones(1, 1))
    said = io.StringIO()  # "nothing is left to train"
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), dying(operation) as calls:
        warnings.simplefilter("ignore")  # no score yet, no checkpoint yet, a kept file that a later part had removed
        trainer.fit(Net(schedule), train, val, ckpt_path="last" if resume else None)
    return callbacks, deaths.calls, calls[0]


def found_in(root: Path) -> dict[str, int | None]:
    """The step in each checkpoint, by name; None for the user's."""
    found: dict[str, int | None] = {}
    for path in sorted((root / "kept").rglob("*")):
        if path.is_file() or path.is_symlink():
            name = path.relative_to(root / "kept").as_posix()
            is_users = path.read_bytes() == b"mine"
            found[name] = None if is_users else torch.load(path, weights_only=True)["global_step"]
        elif not any(path.iterdir()):
            found[f"{path.relative_to(root / 'kept').as_posix()}/ (empty)"] = None
    return found


def differences(schedule: Schedule, root: Path, callbacks: list[ModelCheckpoint], expected: Expected) -> list[str]:
    """What is not as the rules say."""
    wrong: list[str] = []
    if (files := found_in(root)) != expected.files:
        wrong.append(f"files: {files}, expected {expected.files}")
    for callback, kept in zip(callbacks, expected.kept, strict=True):
        name = lambda path: os.path.relpath(path, root / "kept") if path else ""  # noqa: E731
        if name(callback.best_model_path) != kept.best():
            wrong.append(f"best: {name(callback.best_model_path)}, expected {kept.best()}")
        if name(callback.last_model_path) != kept.last:
            wrong.append(f"last: {name(callback.last_model_path)}, expected {kept.last}")
        scores = {name(path): float(score) for path, score in callback.best_k_models.items()}
        if scores != kept.ranked:
            wrong.append(f"scores: {scores}, expected {kept.ranked}")
    return wrong


def check(seed: int, folder: Path) -> tuple[Schedule, list[str], int]:
    """Draw a schedule, run it undisturbed and with interruptions; -> what is wrong, and how often it was ended."""
    rng = random.Random(seed)
    schedule = draw(rng)
    expected = Expected(schedule)
    roots = folder / "whole", folder / "parts"
    for root in roots:
        for name in schedule.planted:
            path = root / "kept" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"mine")
        (root / "kept").mkdir(parents=True, exist_ok=True)
    callbacks, num_hooks, num_operations = run(schedule, roots[0], resume=False)
    wrong = [f"undisturbed: {text}" for text in differences(schedule, roots[0], callbacks, expected)]
    deaths = 0
    for number in range(rng.randint(1, 3) + 1):
        is_last = number > 0 and (number == 3 or rng.random() < 0.4)
        at = {} if is_last else rng.choice((
            {"hook": rng.randint(1, num_hooks)}, {"operation": rng.randint(1, max(num_operations, 1))},
        ))  # fmt: skip
        try:
            callbacks, *_ = run(schedule, roots[1], resume=True, **at)
            break
        except Killed:
            deaths += 1
    else:
        callbacks, *_ = run(schedule, roots[1], resume=True)
    wrong += [f"after {deaths} deaths: {text}" for text in differences(schedule, roots[1], callbacks, expected)]
    return schedule, wrong, deaths


def main() -> None:
    """Check schedules; the exit status is 1 where one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    num_wrong = num_deaths = 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        with tempfile.TemporaryDirectory() as folder:
            schedule, wrong, deaths = check(seed, Path(folder))
        num_deaths += deaths
        if wrong:
            num_wrong += 1
            print(f"--seed {seed} --count 1: {schedule}", *wrong, sep="\n  ")
    print(f"{arguments.count} schedules, ended {num_deaths} times: {num_wrong} differ from the rules")
    raise SystemExit(num_wrong > 0)


if __name__ == "__main__":
    main()
