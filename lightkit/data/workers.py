"""Worker processes and the signals that ask the main process to end: it comes to a step's end before they do.

Who stops a job often signals all its processes at once (Slurm, systemd, `timeout`). A worker that dies of it ends the
main process, too, in the middle of a step. So, where that one handles a signal, its workers wait to be ended by it.
"""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from multiprocessing.process import BaseProcess

_NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT") if hasattr(signal, name)]
_started: weakref.WeakSet[BaseProcess] = weakref.WeakSet()  # workers that wait


def handled() -> list[int]:
    """The signals that this process handles in Python; Ctrl-C, where it is more than KeyboardInterrupt."""
    handlers = {number: signal.getsignal(number) for number in _NUMBERS}
    return [n for n, handler in handlers.items() if callable(handler) and handler is not signal.default_int_handler]


def outlive(numbers: list[int]) -> None:
    """In a worker: let the first of these signals pass."""
    for number in numbers:
        signal.signal(number, _pass)


def _pass(number: int, frame: object) -> None:
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)  # a second one is meant


def remember(batches: object) -> None:
    """These batches come from workers that wait: at the latest they end when this process does."""
    _started.update(getattr(batches, "_workers", ()))


def end_left(batches: object) -> None:
    """End workers that torch has asked to end, and that did not: they let the first signal pass."""
    for worker in getattr(batches, "_workers", ()):
        if worker in _started and worker.is_alive():
            worker.terminate()


@atexit.register
def _end_all() -> None:
    """Before multiprocessing waits for them: a worker that hangs would not hear a signal."""
    left = [worker for worker in _started if getattr(worker, "_parent_pid", None) == os.getpid() and worker.is_alive()]
    if left and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # torch would raise for each of them
    for worker in left:
        worker.kill()
