"""The validation of a fit: its loaders, asked for where they are first needed; the sanity check; the passes."""

from __future__ import annotations

import math
import signal
import warnings
from typing import TYPE_CHECKING

from lightkit.data import sources
from lightkit.data.lengths import why_empty
from lightkit.data.order import Source
from lightkit.errors import StoppedBySignal
from lightkit.hooks import method_of
from lightkit.loops.evaluation import Context, EvaluationLoop
from lightkit.module import LightModule
from lightkit.seeding import isolate_rng
from lightkit.states import RunningStage

if TYPE_CHECKING:
    from lightkit.run.fit import FitRun


class FitValidation:
    """Validates in a fit. Where none of its loaders has a batch, it is passed over."""

    loop: EvaluationLoop | None = None  # None: its loaders are not asked for yet, or nobody has any

    def __init__(self, run: FitRun, given: object):
        self.run, self.given = run, given
        self.is_asked = False
        self._asked_in = -math.inf  # the epoch
        self._lengths: list[list[float]] = []

    @property
    def has_batches(self) -> bool:
        """Whether there is something to validate with, as far as that is known."""
        if not self.is_asked or self.run.data.reloads_every:
            return True
        return self.loop is not None and sum(self.run.loaders.counts["val"]) > 0

    # ------------------------------------------------------------ loaders

    def begin(self, *, is_resumed: bool) -> None:
        """The training begins: check that the validation works, else ask for loaders that its first epoch needs.

        As in Lightning, nothing is checked where a fit is resumed, and an epoch without a validation needs none.
        """
        epoch = self.run.position.counters.epoch
        validates = self.run.data.plan.validates_in(epoch)
        if not is_resumed and self.run.controls.num_sanity_val_steps > 0:
            self._check_sanity(epoch)
        elif validates:
            with self.run.in_stage(RunningStage.VALIDATING), self.run.listener.at_once():
                self._ask(epoch)
        if is_resumed:
            self._asked_in = self._as_uninterrupted(epoch)
        elif not validates:
            self._asked_in = -math.inf

    def _ask(self, epoch: int) -> None:
        run = self.run
        self.release(has_failed=False)
        found = sources.find_loaders("val", self.given, run.datamodule, run.module)
        self.is_asked, self._asked_in, self.loop = True, epoch, None
        readable: list[Source] = []
        if found is not None:
            is_sequential = bool(run.settings.overfit_batches)
            readable, limits = run.sources_of("val", found, is_sequential=is_sequential, may_be_empty=True)
        if len(readable) > 0:
            self.loop = EvaluationLoop(run, "validation", readable, limits)
            self._see_lengths(is_new=True)
        run.data.plan_validation()

    def _see_lengths(self, *, is_new: bool = False) -> list[float]:
        """How many batches of each loader are used, of as many as it has now; a warning for those that have none."""
        assert self.loop is not None
        run, readable = self.run, self.loop.sources
        lengths = [source.lengths() for source in readable]
        if is_new or lengths != self._lengths:
            self._lengths, limit = lengths, run.controls.limit_val_batches
            run.loaders.counts["val"] = [source.limited(limit, "limit_val_batches") for source in readable]
            for source in (part for each in readable for part in each.parts()):
                if why := why_empty(source.loader, source.name):
                    warnings.warn(f"{why}; the validation passes over it", stacklevel=2)
        return run.loaders.counts["val"]

    @property
    def _is_due_to_ask(self) -> bool:
        every, epoch = self.run.data.reloads_every, self.run.position.counters.epoch
        return not self.is_asked or (every > 0 and epoch - self._asked_in >= every)

    def _as_uninterrupted(self, epoch: int) -> float:
        """The epoch in which a run that was not interrupted has asked last: the resumed one goes on from there."""
        every, between = max(self.run.data.reloads_every, 1), self.run.data.plan.check_every or 1
        first, span = between - 1, -(-every // between) * between
        return first + (epoch - first) // span * span if epoch >= first else -math.inf

    def forget(self) -> None:
        """These loaders are read no more: the next pass asks for others."""
        self.release(has_failed=False)
        self.is_asked = False

    # ------------------------------------------------------------ passes

    def _check_sanity(self, epoch: int) -> None:
        """Run a few validation batches before training; what they log is thrown away, what they draw given back."""
        run, count = self.run, self.run.controls.num_sanity_val_steps
        context = Context(RunningStage.SANITY_CHECKING, writes=False)
        with run.in_stage(RunningStage.SANITY_CHECKING), isolate_rng():
            run.call("on_sanity_check_start")
            with run.listener.at_once():
                self._ask(epoch)
            if self.loop is not None and sum(run.loaders.counts["val"]) > 0:
                limits = run.loaders.counts["sanity"] = [min(count, n) for n in run.loaders.counts["val"]]
                with run.position.metrics_left_alone():
                    run.timing.timed("sanity check", self.loop.evaluate)(context, limits)
                run.position.results.remember(self.loop.results)
            run.call("on_sanity_check_end")
            run.board.clear()

    def validate(self) -> bool:
        """One validation in between; the callbacks that save have their turn when the training goes on.

        False: there was nothing to validate with.
        """
        run, p = self.run, self.run.position.counters
        if run.controls.stop_signal == signal.SIGINT:
            run.stop_by_signal()  # after the batch in which it came: what is saved begins with the validation
        with run.in_stage(RunningStage.VALIDATING):
            method_of(run.module, LightModule, "on_validation_model_zero_grad")()
            if self._is_due_to_ask:
                with isolate_rng():
                    self._ask(p.epoch)
        if self.loop is None or sum(limits := self._see_lengths()) == 0:
            return False
        broken_off = None
        next_step = p.next_logged_step
        if run.listener.hears:
            from lightkit.run.stopping import BrokenOff

            broken_off = BrokenOff(run)
            next_step = broken_off.next_step()
        context = Context(
            RunningStage.VALIDATING, run.loop.show_step, run.position.end_validation,
            lambda: p.last_logged, next_step,
        )  # fmt: skip
        run.position.begin_validation()
        try:
            with run.listener.holding_interrupts(False):
                run.timing.timed("validation", self.loop.evaluate)(context, limits)
        except StoppedBySignal:
            if broken_off is not None:
                run.stop_by_signal(broken_off)
            raise
        return True

    def release(self, *, has_failed: bool) -> None:
        """These loaders are read no more: let go of what holds processes."""
        if self.loop is not None:
            self.loop.release(has_failed=has_failed)
