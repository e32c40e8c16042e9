"""What to read where an error ended a run; imported when one did."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from lightkit.data import worker_errors

if TYPE_CHECKING:
    from lightkit.run.base import Run


def explained(error: Exception, run: Run) -> BaseException:
    """The error, with a note where torch's words leave something open; or what to read instead.

    That is where a worker process of a loader died or brought it: as it was there, or KeyboardInterrupt, where Ctrl-C
    reached the worker, too.
    """
    if isinstance(error, RuntimeError) and "nference tensor" in str(error):
        error.add_note(
            "A tensor made in trainer.validate, test or predict, such as a cache, is used where gradients are wanted; "
            "make it outside, or write Trainer(inference_mode=False)"
        )
    found = worker_errors.explained(error, [part for source in run.read_sources() for part in source.parts()])
    if found is not None and run.controls.stop_signal == signal.SIGINT:
        return KeyboardInterrupt()
    return error if found is None else found
