"""What is said of a training that does not move: nothing left to train, epochs without an optimizer step."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun

MOST_EPOCHS = 10  # a few may rest on purpose, to gather statistics for example


def say_nothing_to_do(run: FitRun, reason: str) -> None:
    """The fit ends before its first batch."""
    p = run.position.counters
    of = "this Trainer" if run.ckpt_path is None else f"the checkpoint {run.ckpt_path}"
    run.trainer.print(
        f"fit: nothing is left to train, {reason}: {of} is at epoch {p.epoch}, step {p.global_step}. Raise the limit "
        "to go on, or make another Trainer and fit without ckpt_path to train from the start"
    )


def check_progress(run: FitRun, epochs: int, *, is_first: bool) -> None:
    """So many epochs in a row have taken no optimizer step: say so once, and end what would never end.

    Raises:
        ConfigError: `max_steps` alone limits the fit, and `MOST_EPOCHS` have not brought it nearer.
    """
    controls, name = run.controls, type(run.module).__name__
    waits = controls.max_epochs in (None, -1) and controls.max_steps != -1 and run.settings.max_time is None
    why = (
        f"no optimizer has stepped through self.optimizers() in {name}.training_step, so trainer.global_step stands "
        "still; write optimizer = self.optimizers() and optimizer.step()"
        if run.manual is not None
        else f"{name}.training_step returned None for every batch, or the batches were skipped"
    )
    if waits and epochs >= MOST_EPOCHS:
        limit = f"Trainer(max_steps={controls.max_steps})"
        raise ConfigError(f"{limit}: {MOST_EPOCHS} epochs without an optimizer step; {why}")
    if is_first and (waits or run.manual is not None):
        warnings.warn(f"an epoch without an optimizer step: {why}", stacklevel=2)
