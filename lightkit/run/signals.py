"""Signals that ask a run to end: SIGTERM, and SIGUSR1 and SIGUSR2, one of which Slurm is told to send as a warning.

The first lets the run come to a place that it can go on from: a fit ends before its next step, an evaluation before its
next batch; what is being set up ends at once. The second ends it at once; the third kills the process. Ctrl-C is heard
too: a batch of a training is finished first, so that what is saved then can be gone on from; a second one ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch.utils.data import get_worker_info

from lightkit.errors import StoppedBySignal
from lightkit.settings import Controls

NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2")  # Windows has the first alone


class Listener:
    """Hears the signals from `begin` to `end`, in the main thread of a script, where nobody else handles them."""

    def __init__(self, controls: Controls):
        self.controls = controls
        self._is_patient = True  # the run looks up by itself when it has come to a place that it can go on from
        self._holds_interrupts = False  # a training goes on, which looks up before each batch
        self._hears_interrupts = False
        self._process = os.getpid()
        self._heard: list[int] = []  # signals that nobody else handles, and that are heard here
        self._of_children: Any = None  # torch's handler for worker processes that ended, while it is to be silent

    def begin(self) -> None:
        """Listen, unless this is a thread or a notebook, where handlers are somebody else's."""
        self.controls.forget_signal()
        if threading.current_thread() is not threading.main_thread() or hasattr(sys, "ps1"):
            return
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        caught = _caught()
        for number in numbers:
            if signal.getsignal(number) is signal.SIG_DFL and number not in caught:
                signal.signal(number, self._take)
                self._heard.append(number)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._hears_interrupts = True

    def end(self) -> None:
        """Put back the handlers that were there, but for those that somebody has replaced meanwhile."""
        self._put_back()
        if self._hears_interrupts and signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._of_children is not None:
            signal.signal(signal.SIGCHLD, self._of_children)

    def _put_back(self) -> None:
        heard, self._heard = self._heard, []
        for number in heard:
            if signal.getsignal(number) == self._take:
                signal.signal(number, signal.SIG_DFL)

    @property
    def hears(self) -> bool:
        """Whether it listens to any signal."""
        return bool(self._heard)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Something is going on, perhaps for long, that nothing is lost of: a signal ends it where it is."""
        self._is_patient = False
        try:
            yield
        finally:
            self._is_patient = True

    @contextmanager
    def holding_interrupts(self, holds: bool) -> Iterator[None]:
        """Ctrl-C waits for the end of the batch; or, not holding, ends what is going on where it is."""
        before, self._holds_interrupts = self._holds_interrupts, holds
        try:
            yield
        finally:
            self._holds_interrupts = before

    def _interrupt(self, number: int, frame: object) -> None:
        is_worker = os.getpid() != self._process and get_worker_info() is not None
        if is_worker:
            return
        if os.getpid() != self._process or not self._holds_interrupts or self.controls.stop_signal != 0:
            raise KeyboardInterrupt
        self.controls.stop_by(number)
        self._ignore_lost_workers()

    def _take(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:
            return _in_a_child(number)
        is_second = self.controls.stop_signal != 0
        self.controls.stop_by(number)
        if is_second:
            self._put_back()
            raise StoppedBySignal(number)
        self._ignore_lost_workers()
        if not self._is_patient:
            raise StoppedBySignal(number)

    def _ignore_lost_workers(self) -> None:
        """Worker processes of a loader may have got the signal too: torch would raise in the middle of a step."""
        number = getattr(signal, "SIGCHLD", None)
        handler = None if number is None else signal.getsignal(number)
        if number is not None and getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
            # not SIG_DFL: Python prints a traceback for one that has come and waits for its handler
            self._of_children = signal.signal(number, _pass)


def stopped_by(number: int) -> BaseException:
    """What ends a run that was asked to end by this signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else StoppedBySignal(number)


def _pass(number: int, frame: object) -> None:
    """Nothing is to be done."""


def _in_a_child(number: int) -> None:
    """A process that was forked meanwhile has the handler too: a worker waits for its end, others end by the signal."""
    if get_worker_info() is None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _caught() -> set[int]:
    """Signals that the process catches, where the system says it: `faulthandler` does so without Python's knowledge."""
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/status", encoding="ascii") as file:
            mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
        return {number + 1 for number in range(mask.bit_length()) if mask >> number & 1}
    return set()
