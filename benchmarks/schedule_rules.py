"""Random schedules of ModelCheckpoint, and what its rules say is there at the end; the code under test is not asked.

See benchmarks/schedules.py, which runs them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lightkit.callbacks import ModelCheckpoint

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
