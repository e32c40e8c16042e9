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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import Callback, ModelCheckpoint

# ------------------------------------------------------------ schedules


@dataclass(frozen=True)
class Rule:
    """What one callback is told."""

    folder: str
    steps: int | None
    epochs: int | None
    monitor: str | None
    mode: str
    top_k: int
    last: bool | str | None
    filename: str | None
    weights_only: bool = False

    def make(self, root: Path) -> ModelCheckpoint:
        """The callback."""
        return ModelCheckpoint(
            root / self.folder, self.filename, self.monitor, save_last=self.last, save_top_k=self.top_k, mode=self.mode,
            every_n_train_steps=self.steps, every_n_epochs=self.epochs, save_weights_only=self.weights_only,
        )  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """One training; val_every: batches between validations, None: once an epoch, 0: never."""

    rules: tuple[Rule, ...]
    num_batches: int
    epochs: int
    accumulate: int
    val_every: int | None
    check_every: int
    is_async: bool
    scores: tuple[float, ...]  # of "v" by step, of "t" from behind
    planted: tuple[str, ...]  # the user's files

    def score(self, name: str, step: int) -> float:
        """What is logged under a name for a step."""
        table = self.scores if name == "v" else self.scores[::-1]
        return table[step % len(table)]


def draw(rng: random.Random) -> Schedule:
    """A random schedule."""

    def rule(folder: str) -> Rule:
        by_steps = rng.random() < 0.5
        monitor = rng.choice((None, "v", "v", "t"))
        names = (None, "{step}", "{epoch}-{step}", "same", "{epoch}/{step}", "{epoch}-{part/x:d}", "last", "{v:.1f}")
        return Rule(
            folder, rng.randint(1, 4) if by_steps else None, None if by_steps else rng.randint(1, 2), monitor,
            rng.choice(("min", "max")), rng.choice((-1, 0, 1, 2, 3) if monitor else (-1, 0, 1, 1)),
            rng.choice((None, None, True, True, "link")), rng.choice(names),
        )  # fmt: skip

    num_batches = rng.randint(2, 6)
    rules = [rule("a")]
    if rng.random() < 0.6:
        folder = rng.choice("ab")
        if rng.random() < 0.2:  # of the same moments: what can be resumed is written first
            rules.append(Rule(**{**vars(rules[0]), "folder": "b", "weights_only": True}))
        else:
            rules.append(rule(folder))
    if all(r.top_k == 0 and not r.last for r in rules):
        rules[0] = Rule(**{**vars(rules[0]), "last": True, "weights_only": False})
    return Schedule(
        tuple(rules), num_batches, rng.randint(1, 3), rng.choice((1, 1, 2)),
        rng.choice((None, None, 0, *range(1, num_batches + 1))), rng.choice((1, 1, 2)), rng.random() < 0.3,
        tuple(rng.choice((0.5, 1.0, 1.5, 2.0, 2.5, float("nan"))) for _ in range(rng.randint(3, 11))),
        rng.choice(((), (), ("a/same.ckpt",), ("a/last.ckpt",), ("a/step=2.ckpt", "b/mine.ckpt"))),
    )  # fmt: skip


# ------------------------------------------------------------ what the rules say


@dataclass
class Kept:
    """What one callback has, by the rules."""

    rule: Rule
    ranked: dict[str, float] = field(default_factory=dict)  # oldest first
    newest: str = ""
    stand_in: str = ""
    last: str = ""
    waits: str = ""
    step_saved: int = 0
    has_saved: bool = False

    def best(self) -> str:
        """The best file; without a monitor the newest."""
        if self.rule.monitor is None:
            return self.newest
        pick = min if self.rule.mode == "min" else max
        return pick(self.ranked, key=self.ranked.__getitem__, default="")


class Expected:
    """The rules, followed step by step. files: the step in each, by name; None: the user's."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.files: dict[str, int | None] = dict.fromkeys(schedule.planted)
        self.kept = [Kept(rule) for rule in schedule.rules]
        self.metrics: dict[str, float] = {}
        self.step = self.epoch = 0
        self.has_validated = False
        whole = schedule.val_every in (None, 0)
        self.at_epoch_end = schedule.check_every == 1 and whole
        for self.epoch in range(schedule.epochs):
            self._epoch()
        self._end()

    def _epoch(self) -> None:
        s = self.schedule
        validates = s.val_every != 0 and (self.epoch + 1) % s.check_every == 0
        every, before = s.val_every or s.num_batches, 0
        for done in range(1, s.num_batches + 1):
            if done % s.accumulate != 0 and done < s.num_batches:
                continue
            self.step += 1
            self.metrics["t"] = s.score("t", self.step - 1)
            is_due, before = validates and done // every > before // every, done
            self._moment(lambda k, d=done, due=is_due: self._after_step(k, d == s.num_batches, due))
            if is_due:
                self.metrics["v"], self.has_validated = s.score("v", self.step), True
                self._moment(self._after_validation)
        self._moment(self._after_epoch)

    # ---- when

    def _after_step(self, kept: Kept, is_last: bool, is_due: bool) -> bool:
        rule = kept.rule
        if rule.steps is None or self.step % rule.steps or kept.step_saved == self.step:
            return False
        if rule.monitor is None:
            return True
        if is_due and not (is_last and self.at_epoch_end):
            kept.waits = "validation"
        else:
            kept.waits = "epoch" if is_last else "" if rule.monitor in self.metrics else "validation"
        return not kept.waits

    def _after_validation(self, kept: Kept) -> bool:
        if kept.waits == "validation" and kept.rule.monitor in self.metrics:
            kept.waits = ""
            return True
        return not self.at_epoch_end and self._epoch_is_due(kept)

    def _after_epoch(self, kept: Kept) -> bool:
        waited, kept.waits = kept.waits, ""
        return kept.step_saved != self.step and (bool(waited) or (self.at_epoch_end and self._epoch_is_due(kept)))

    def _epoch_is_due(self, kept: Kept) -> bool:
        return bool(kept.rule.epochs) and (self.epoch + 1) % kept.rule.epochs == 0 and kept.step_saved != self.step

    def _end(self) -> None:
        for kept in self.kept:
            rule = kept.rule
            if kept.has_saved:
                continue
            waits = bool(rule.epochs) and not self.at_epoch_end and not self.has_validated and rule.top_k != 0
            if waits and self.schedule.epochs >= (rule.epochs or 0):
                self._moment(lambda k, this=kept: k is this)
            elif rule.last:
                kept.last = self._name(kept, "last", "", set())
                self.files[kept.last] = self.step

    # ---- what

    def _moment(self, is_due: Callable[[Kept], bool]) -> None:
        taken: set[str] = set()
        gone: set[str] = set()
        written: set[str] = set()
        for kept in [k for k in self.kept if is_due(k)]:
            new, old = self._save(kept, taken)
            written |= new
            gone |= old
            if new:
                kept.step_saved, kept.has_saved = self.step, True
        for name in gone - written - {""}:
            self.files.pop(name, None)
        self.files.update(dict.fromkeys(written, self.step))

    def _save(self, kept: Kept, taken: set[str]) -> tuple[set[str], set[str]]:
        """-> the names written, and those deleted."""
        rule, path, old = kept.rule, "", ""
        gone: set[str] = set()
        has_score = rule.monitor is None or rule.monitor in self.metrics
        is_link = rule.last == "link" and rule.top_k != 0
        if not has_score:
            if not rule.last and rule.top_k != 0:
                old, kept.stand_in = kept.stand_in, self._name(kept, "{epoch}-{step}", kept.stand_in, taken)
                return {kept.stand_in}, {old}
            is_link = False
        elif self._is_kept(kept):
            if rule.monitor is None:
                old = kept.newest if rule.top_k == 1 else ""
                path = kept.newest = self._name(kept, rule.filename, old, taken)
            else:
                if 0 < rule.top_k <= len(kept.ranked):
                    old = self._worst(kept)
                    del kept.ranked[old]
                path = self._name(kept, rule.filename, old, taken)
                kept.ranked[path] = self._score(rule)
            gone, kept.stand_in = {old, kept.stand_in}, ""
        written = {path} if path else set()
        if rule.last and (path or not is_link):
            gone.add(kept.last)
            kept.last = self._name(kept, "last", kept.last, taken)
            written.add(kept.last)
        return written, gone

    def _score(self, rule: Rule) -> float:
        value = self.metrics[str(rule.monitor)]
        return value if value == value else float("inf") if rule.mode == "min" else float("-inf")

    def _worst(self, kept: Kept) -> str:
        pick = max if kept.rule.mode == "min" else min
        return pick(kept.ranked, key=kept.ranked.__getitem__)

    def _is_kept(self, kept: Kept) -> bool:
        rule = kept.rule
        if rule.top_k == 0 or rule.monitor is None or rule.top_k == -1 or len(kept.ranked) < rule.top_k:
            return rule.top_k != 0
        new, worst = self._score(rule), kept.ranked[self._worst(kept)]
        return new < worst if rule.mode == "min" else new > worst

    def _name(self, kept: Kept, pattern: str | None, own: str, taken: set[str]) -> str:
        value = self.metrics.get("v", 0)
        epoch, step = f"epoch={self.epoch}", f"step={self.step}"
        names = {
            None: f"{epoch}-{step}", "{epoch}-{step}": f"{epoch}-{step}", "{step}": step, "same": "same",
            "last": "last", "{epoch}/{step}": f"{epoch}/{step}", "{epoch}-{part/x:d}": f"{epoch}-part/x=0",
            "{v:.1f}": f"v={value:.1f}",
        }  # fmt: skip
        base, version = f"{kept.rule.folder}/{names[pattern]}", 0
        while True:
            name = f"{base}-v{version}.ckpt" if version else f"{base}.ckpt"
            if name not in taken and (name == own or name not in self.files):
                taken.add(name)
                return name
            version += 1


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
