"""Which functions the time of each section goes to, by cProfile."""

from __future__ import annotations

import cProfile
import io
import pstats
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.profilers.base import Profiler
from lightkit.profilers.timing import innermost

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["AdvancedProfiler"]

PRINTED_LINES = 10  # of each section, where a file has them all


class AdvancedProfiler(Profiler):
    """Reports, for each section, the functions that took its time, as cProfile counts them.

    A section inside another one has a report of its own and is left out of the other's. cProfile watches every call of
    Python and makes it slower: trust the order more than the shares. What torch does inside one call is one line; see
    `PyTorchProfiler` for it.

    Args:
        dirpath, filename: where to write the report; see `Profiler`.
        line_count_restriction: how much of each report: a count of lines, or a share of them.
        dump_stats: also write `<stage>-<filename>-<section>.prof` for each section, for snakeviz and `pstats`.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None,
        line_count_restriction: float = 1.0, dump_stats: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(dirpath, filename)
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self.profiled_actions: dict[str, cProfile.Profile] = {}
        self._running: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "profiled_actions": {}, "_running": []}  # what cProfile recorded cannot be copied

    def _begin(self, trainer: Trainer, stage: str) -> None:
        self.profiled_actions, self._running = {}, []
        super()._begin(trainer, stage)

    def start(self, action_name: str) -> None:
        """As Profiler.start: from here on calls count for this section."""
        if threading.get_ident() != self._thread:
            return
        if self._running:
            self.profiled_actions[self._running[-1]].disable()
        self._running.append(action_name)
        self.profiled_actions.setdefault(action_name, cProfile.Profile()).enable()

    def stop(self, action_name: str) -> None:
        """As Profiler.stop: calls count again for the section around it."""
        if threading.get_ident() != self._thread:
            return
        place = innermost(action_name, self._running)
        self.profiled_actions[self._running[-1]].disable()
        del self._running[place]
        if self._running:
            self.profiled_actions[self._running[-1]].enable()

    def summary(self) -> str:
        """Return one report for each section, the one that took longest first, the set-up last."""
        return self._reports(self.line_count_restriction)

    def describe(self, say: Callable[[str], object] = print) -> None:
        """Write the report to its file, and print the beginning of each section's."""
        if self.dump_stats:
            for name, profile in self.profiled_actions.items():
                section = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
                if (path := self._path(".prof", section)) is not None:
                    profile.dump_stats(path)
        text = self.summary()
        if text and (path := self._write(text)) is not None:
            text = f"{self._reports(PRINTED_LINES)}\nall of it is in {path}"
        if text:
            say(text)

    def _reports(self, restriction: float) -> str:
        found = []
        for name, profile in self.profiled_actions.items():
            text = io.StringIO()
            stats = pstats.Stats(profile, stream=text)
            total_s: float = stats.total_tt  # type: ignore[attr-defined]
            stats.strip_dirs().sort_stats("cumulative").print_stats(restriction)
            found.append((name == "set-up", -total_s, f"{self._stage}: {name}: {text.getvalue().strip()}"))
        return "\n\n".join(text for _, _, text in sorted(found))
