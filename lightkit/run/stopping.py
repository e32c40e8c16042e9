"""A fit that a signal ends: the checkpoint that it goes on from, and how that leaves again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Checkpoint
from lightkit.checkpoint.places import place
from lightkit.checkpoint.writer import Writer
from lightkit.run import saving

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun

NAME = "stopped_by_signal.ckpt"


def folders_of(run: FitRun) -> list[Path]:
    """Where the checkpoints of the run are."""
    own = [place(folder) for c in run.callbacks if isinstance(c, Checkpoint) and (folder := c.dirpath)]
    return own or [run.directory.look(run.name) / "checkpoints"]


def save(run: FitRun, broken_off: BrokenOff | None) -> None:
    """Save the fit as it is between two steps, where "last" and resume="auto" find it; say so in one line.

    Nothing is saved where nothing is new since the start or the last resume, or where checkpoints are turned off.
    broken_off: the validation that the signal came in.
    """
    name = signal.Signals(run.controls.stop_signal).name
    step, epoch = run.position.counters.global_step, run.position.counters.epoch
    where = f"{name}: the fit ends in epoch {epoch}, after step {step}"
    if run.settings.fast_dev_run or run.settings.enable_checkpointing is False:
        _say(run, f"{where}; nothing is saved, as checkpoints are off")
    elif run.position.is_as_loaded:
        again = f"go on from {run.ckpt_path}" if run.ckpt_path else "begin anew"
        _say(run, f"{where}; there is nothing new to save, {again}")
    else:
        path = folders_of(run)[0] / NAME
        run.loop.check_weights()
        if broken_off is not None:
            broken_off.put_back()
        checkpoint = saving.gather(run, None, weights_only=False)
        if broken_off is not None and broken_off.loggers is not None:
            checkpoint["loggers"] = broken_off.loggers
        run.writer.settle()
        run.writer.save(checkpoint, path, saving.note_of(run))
        run.writer.settle()
        _say(run, f"{where}; saved {path}. Go on with ckpt_path='last' or Trainer(resume='auto')")


def _say(run: FitRun, text: str) -> None:
    with suppress(OSError):  # who reads it may have ended before
        run.trainer.print(text)


class Leftovers:
    """Files of earlier stops, which leave when the run that went on from them has a checkpoint of its own."""

    def __init__(self, run: FitRun):
        self.folders = folders_of(run)
        self.files = [file for folder in self.folders if (file := folder / NAME).is_file()]

    def leave(self, writer: Writer, saved: Path | None = None) -> None:
        """The run has saved this file, or, None, is at its end."""
        if saved is None or saved.absolute().parent in [folder.absolute() for folder in self.folders]:
            files, self.files = self.files, []
            for file in files:
                writer.then(partial(file.unlink, missing_ok=True))


class BrokenOff:
    """What a validation in a fit has moved that is to be as before it, where a signal breaks it off."""

    def __init__(self, run: FitRun):
        self.run, self.steps_logged = run, run.position.counters.steps_logged
        self.loggers: list[Any] | None = None  # their states before the first row of the validation

    def next_step(self) -> Callable[[], int]:
        """As Counters.next_logged_step; the loggers' states are kept before they write."""

        def step() -> int:
            if self.loggers is None:
                self.loggers = self.run.trainer._records.state_dict() if self.run.loggers else []
            return self.run.position.counters.next_logged_step()

        return step

    def put_back(self) -> None:
        """As it was before the validation."""
        self.run.position.counters.rewind_logged(self.steps_logged)
