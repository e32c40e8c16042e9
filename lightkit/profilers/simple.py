"""Where the wall-clock time of a run goes, as a table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lightkit.profilers.base import Profiler
from lightkit.profilers.timing import LOOP, OUTSIDE_STEP, innermost

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["Section", "SimpleProfiler"]

OTHER = "other"
ORDER = (
    "data", "transfer", "forward", "zero_grad", "backward", "clipping", "optimizer", "schedulers", "logging", "hooks",
)  # fmt: skip
ALWAYS_IN_FIT = frozenset(ORDER) - {"zero_grad", "clipping"}  # even where they never ran
OUTSIDE = ("validation", "checkpoint", "sanity check", "set-up", "open data")
SHOWN_HOOKS, LEAST_SHARE = 5, 0.005  # the slowest hooks have lines of their own, from half a percent on


@dataclass
class Section:
    """What was recorded of a section: how often it ran, and the seconds in it without those of sections inside it."""

    calls: int = 0
    seconds: float = 0.0


class SimpleProfiler(Profiler):
    """Prints at the end of a run how often each section ran, how long it took, and its share of the whole.

    A section inside another one is taken out of the other's time, so the rows add up to the wall-clock time. Two
    readings of the clock a section are all it does: memory and cost a step are the same in a run of any length.

    On a GPU, kernels run after the call that started them has returned. Their time shows in the section that waits
    for them: `logging` or `hooks` where a metric is read, `transfer`, `optimizer` with a gradient scaler.
    `synchronize=True` waits for the device around each section: true shares, and a slower run.

    Args:
        dirpath, filename: where to write the table; see `Profiler`.
        extended: also the number of calls and the mean, as Lightning's.
        synchronize: wait for the GPU at the beginning and end of each section.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True, *,
        synchronize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(dirpath, filename)
        self.extended = extended
        self._now: Callable[[], float] = _synchronized if synchronize else time.perf_counter
        self._reset()

    def _reset(self) -> None:
        self.sections: dict[str, Section] = {}
        self._running: list[str] = []
        self._last = self._began = self._now()
        self.step_s = 0.0  # in the training loop, without those of validations and checkpoints in between
        self._counts_step = False

    def _begin(self, trainer: Trainer, stage: str) -> None:
        self._reset()
        super()._begin(trainer, stage)

    # ------------------------------------------------------------ recording

    def start(self, action_name: str) -> None:
        """As Profiler.start."""
        if threading.get_ident() != self._thread:
            return
        self._advance()
        self._running.append(action_name)
        self._see()

    def stop(self, action_name: str) -> None:
        """As Profiler.stop."""
        self._close(action_name, is_call=True)

    def abandon(self, action_name: str) -> None:
        """As Profiler.abandon."""
        self._close(action_name, is_call=False)

    def _close(self, name: str, *, is_call: bool) -> None:
        if threading.get_ident() != self._thread:
            return
        place = innermost(name, self._running)
        self._advance()
        del self._running[place]
        if is_call and name not in self._running:  # a section inside itself, as a logger's inside a written step: once
            self.sections.setdefault(name, Section()).calls += 1
        self._see()

    def _advance(self) -> None:
        """Give the time since the last event to the innermost section."""
        now = self._now()
        passed, self._last = now - self._last, now
        name = self._running[-1] if self._running else OTHER
        section = self.sections.get(name)
        if section is None:
            section = self.sections[name] = Section()
        section.seconds += passed
        if self._counts_step:
            self.step_s += passed

    def _see(self) -> None:
        running = self._running
        self._counts_step = LOOP in running and not any(name in running for name in OUTSIDE_STEP)

    # ------------------------------------------------------------ reporting

    @property
    def wall_s(self) -> float:
        """Seconds recorded so far; all sections add up to it."""
        return self._last - self._began

    def grouped(self) -> dict[str, Section]:
        """The sections by what stands before their `:`, so all hooks are one."""
        groups: dict[str, Section] = {}
        for name, section in self.sections.items():
            group = groups.setdefault(name.partition(":")[0], Section())
            group.calls += section.calls
            group.seconds += section.seconds
        return groups

    def summary(self) -> str:
        """Return the table."""
        if not self.sections:
            return ""
        groups = self.grouped()
        is_fit = LOOP in groups
        wanted = ALWAYS_IN_FIT if is_fit else ("data", "transfer", "forward", "logging", "hooks")
        known = (*ORDER, LOOP, *OUTSIDE, OTHER)
        own = [name for name in groups if name not in known]
        outside = [name for name in OUTSIDE if name in groups or (is_fit and name in OUTSIDE_STEP)]
        rows: list[list[str]] = []
        for name in [n for n in ORDER if n in groups or n in wanted] + own + ([LOOP] if is_fit else []):
            rows.append(self._row(name, groups.get(name, Section())))
            rows += self._slowest_hooks() if name == "hooks" else []
        if is_fit:
            steps = Section(groups.get("data", Section()).calls, self.step_s)
            rows += [[], self._row("step total", steps), []]
        rows += [self._row(name, groups.get(name, Section())) for name in [*outside, OTHER]]
        rows += [[], self._row("total", Section(0, self.wall_s))]
        return f"{self._stage}: where the time went\n" + _table(rows, self.extended)

    def _slowest_hooks(self) -> list[list[str]]:
        found = [(s.seconds, name) for name, s in self.sections.items() if name.startswith("hooks:")]
        shown = [(s, name) for s, name in sorted(found, reverse=True)[:SHOWN_HOOKS] if s >= LEAST_SHARE * self.wall_s]
        return [self._row("  " + name.removeprefix("hooks: "), self.sections[name]) for _, name in shown]

    def _row(self, name: str, section: Section) -> list[str]:
        mean = "-" if section.calls == 0 else _duration(section.seconds / section.calls)
        share = section.seconds / self.wall_s if self.wall_s > 0 else 0.0
        calls = f"{section.calls:,}" if section.calls or section.seconds == 0 else "-"
        return [name, calls, mean, _duration(section.seconds), f"{100 * share:.1f}"]


def _synchronized() -> float:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _duration(seconds: float) -> str:
    """Three digits and a unit: `12.3 us`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            number = seconds / size
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
    return f"{seconds * 1e9:.0f} ns" if seconds > 0 else "0 s"


def _table(rows: list[list[str]], extended: bool) -> str:
    """Lines with aligned columns; an empty row is a rule."""
    head = ["section", "calls", "mean", "total", "percent"]
    columns = (0, 1, 2, 3, 4) if extended else (0, 2, 3)
    cells = [[row[i] for i in columns] if row else [] for row in [head, [], *rows]]
    widths = [max(len(row[i]) for row in cells if row) for i in range(len(columns))]
    lines = []
    for row in cells:
        if not row:
            lines.append("-" * (sum(widths) + 3 * (len(widths) - 1)))
            continue
        first, *numbers = row
        padded = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("   ".join([first.ljust(widths[0]), *padded]))
    return "\n".join(lines)
