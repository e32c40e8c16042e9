"""What every profiler is: it is told when a named section of a run starts and stops, and reports at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightkit.contracts import UNTIMED, Timing
from lightkit.errors import RunDirError

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["PassThroughProfiler", "Profiler"]


class Profiler:
    """Base of profilers. Override `start`, `stop` and `summary`; names are Lightning 2.6's.

    Off costs nothing: the loops hold plain callables. Where one is on, they hold the same ones timed (see `timing.py`
    for what is timed and the names of the sections).

    Args:
        dirpath: where to write the report. Default: the run directory.
        filename: the report's file is `<fit|validate|test|predict>-<filename>.txt`. Default: `profile`.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        self.dirpath = None if dirpath is None else _place(dirpath)
        self.filename = filename
        self._stage = ""
        self._log_dir: str | None = None
        self._thread = threading.get_ident()  # what other threads do runs beside the run, and is left out

    # ------------------------------------------------------------ what a subclass overrides

    def start(self, action_name: str) -> None:
        """A section starts."""
        raise NotImplementedError(f"{type(self).__name__}.start")

    def stop(self, action_name: str) -> None:
        """The section that was started under this name stops."""
        raise NotImplementedError(f"{type(self).__name__}.stop")

    def summary(self) -> str:
        """Return the report of everything recorded so far; "" where there is nothing to say."""
        return ""

    def abandon(self, action_name: str) -> None:
        """A section turned out to be none, such as a fetch that found the end of the data: its call is not counted."""
        self.stop(action_name)

    def on_batch(self) -> None:
        """A batch of the training, or of an evaluation that runs on its own, is about to be fetched."""

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """A run begins; stage: "fit", "validate", "test" or "predict"; log_dir: None where nothing may be written."""
        self._stage, self._log_dir = stage, log_dir

    def teardown(self, stage: str | None) -> None:
        """The run is over, and what it recorded was reported."""

    # ------------------------------------------------------------ what users call

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Record what runs inside of `with trainer.profiler.profile("name"):` as a section of its own."""
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def describe(self, say: Callable[[str], object] = print) -> None:
        """Print the report, and write it to its file."""
        text = self.summary()
        if not text:
            return
        path = self._write(text)
        say(text if path is None else f"{text}\nwritten to {path}")

    def _write(self, text: str) -> Path | None:
        """Write the report to its file, and return its path; None where nothing may be written."""
        path = self._path(".txt")
        try:
            if path is not None:
                path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise RunDirError(f"{type(self).__name__}: cannot write {path}: {error.strerror or error}") from error
        return path

    def _path(self, extension: str, name: str | None = None) -> Path | None:
        """The file `<stage>-<filename>[-name]<extension>`, its folder made; None where nothing may be written."""
        folder = self.dirpath or (None if self._log_dir is None else _place(self._log_dir))
        if folder is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        parts = (self._stage, self.filename or "profile", name)
        return folder / ("-".join(part for part in parts if part) + extension)

    # ------------------------------------------------------------ what runs call

    def _timing(self, *, is_nested: bool) -> Timing:
        """What times the parts of a run; one inside a hook of another is a part of that hook."""
        if is_nested:
            return UNTIMED
        from lightkit.profilers.timing import SectionTiming

        return SectionTiming(self)

    def _begin(self, trainer: Trainer, stage: str) -> None:
        """A run begins; what was recorded of the run before is forgotten."""
        self._stage, self._log_dir, self._thread = stage, None, threading.get_ident()

    def _open(self, trainer: Trainer) -> None:
        """The run knows its directory: `setup` with it."""
        may_write = trainer.is_global_zero and not trainer.fast_dev_run and self.dirpath is None
        self.setup(self._stage, trainer.local_rank, str(trainer.run_dir) if may_write else None)

    def _end(self, trainer: Trainer, status: str) -> None:
        """The run is over: report, unless the status is "failed"."""
        if trainer.is_global_zero and status != "failed":
            self.describe(trainer.print)
        self.teardown(self._stage)


class PassThroughProfiler(Profiler):
    """Records nothing, times nothing, writes nothing: what `Trainer(profiler=None)` means."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def _timing(self, *, is_nested: bool) -> Timing:
        return UNTIMED

    def _open(self, trainer: Trainer) -> None:
        """Nothing is written."""


def _place(path: str | Path) -> Path:
    from lightkit.checkpoint.places import place

    return place(path)
