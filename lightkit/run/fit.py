"""A fit, from its first hook to its last: who is set up when, with which data and checkpoint."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never

import torch
from torch.optim import Optimizer

from lightkit import optimizers
from lightkit.callbacks.base import Checkpoint
from lightkit.contracts import UNTIMED
from lightkit.data.order import Source
from lightkit.errors import ConfigError, HookError
from lightkit.hooks import overrides
from lightkit.loops.training import TrainingLoop
from lightkit.module import LightModule
from lightkit.run.base import Run
from lightkit.run.data import FitData
from lightkit.run.signals import stopped_by
from lightkit.seeding import Snapshot
from lightkit.states import RunningStage, TrainerFn

if TYPE_CHECKING:
    from lightkit.loops.steps.manual import ManualOptimization
    from lightkit.run.stopping import BrokenOff, Leftovers


class FitRun(Run):
    """One call of `trainer.fit`."""

    fn: ClassVar[TrainerFn] = TrainerFn.FITTING
    main_stage: ClassVar[RunningStage] = RunningStage.TRAINING
    data: FitData
    loop: TrainingLoop
    manual: ManualOptimization | None = None  # where the module optimizes by itself
    is_finished = False  # it came to its end before, and is started again
    leftovers: Leftovers | None = None  # of a stop before, after a resume

    def attach(self) -> None:
        """As Run.attach; loop and data are there from now on."""
        self.data = FitData(self, *self.given)
        self.loop = TrainingLoop(self, self.position)
        self.evaluation_timing = UNTIMED  # a validation inside of a fit is one section as a whole
        super().attach()

    # ------------------------------------------------------------ from the first hook to the last

    def fit(self, ckpt_path: str | Path | None) -> None:
        """See Trainer.fit."""
        position = self.position
        with self.running():
            position.attach(self.module, self.board, self.device)
            position.forget_results()
            with self.profiler.profile("set-up"), self.listener.at_once():
                is_resumed = self._prepare(ckpt_path)
            position.start(is_resumed=is_resumed, is_manual=self.manual is not None)
            if self.data.validation is not None:
                self.data.validation.begin(is_resumed=is_resumed)
            with torch.autograd.set_detect_anomaly(True) if self.controls.detect_anomaly else nullcontext():
                with self.listener.holding_interrupts(True):
                    self.loop.fit()
            self.writer.settle()
            position.end()
            self.call("on_fit_end")
            if self.leftovers is not None:
                self.leftovers.leave(self.writer)

    def _prepare(self, ckpt_path: str | Path | None) -> bool:
        """Set everything up; whether the run goes on from a checkpoint."""
        checkpoint: dict[str, Any] | None = None
        if is_auto := ckpt_path is None and self._resumes_by_itself():
            from lightkit.run import resume

            ckpt_path = resume.newest(self)
        if ckpt_path is not None:
            from lightkit.run import saving

            checkpoint, path = saving.for_fit(self, ckpt_path, is_found=is_auto)
            self.ckpt_path = path or None
        self.check_hooks()
        self.open_directory()
        if (is_auto or ckpt_path is not None) and checkpoint is None:  # "last", and nothing was saved
            self._set_aside()
        self.set_up()
        self.precision.convert_module(self.module)  # before weights, which may be of float64
        if checkpoint is not None:
            saving.show(self, checkpoint)
            saving.give_callbacks(self, checkpoint, path)
            saving.give_weights(self, checkpoint, path)
        self.place()
        self.configure_optimizers()
        if checkpoint is not None:
            self.data.find_validation()  # schedulers that are given back ask whether there is any
            self._give_training(checkpoint, path, is_auto=is_auto)
        self._note(is_end=False)
        self.call("on_fit_start")
        if self.loggers:
            from lightkit.run.logged_hparams import log_hyperparameters

            log_hyperparameters(self)
        self.data.load()
        return checkpoint is not None

    def _set_aside(self) -> None:
        """What an earlier start, killed before its first checkpoint, has written here is none of this run's."""
        if self.strategy.is_global_zero and not self.settings.fast_dev_run and self.loggers:
            self.trainer._records.set_aside()

    def _resumes_by_itself(self) -> bool:
        """Whether Trainer(resume="auto") is asked for; a second fit goes on from what is in memory."""
        return self.settings.resume == "auto" and not self.settings.fast_dev_run and not self.position.has_ended

    def _give_training(self, checkpoint: dict[str, Any], path: str, *, is_auto: bool) -> None:
        """Give back what a fit goes on with; see what a stop before has left, and whether there is anything to do."""
        from lightkit.run import resume, saving, stopping

        self.is_finished = is_auto and resume.has_ended(self)
        if self.is_finished:
            checkpoint["loggers"] = []  # what they have may be of later than the checkpoint, and is to stay
        saving.give_training(self, checkpoint, path)
        self.leftovers = stopping.Leftovers(self)

    def _note(self, *, is_end: bool) -> None:
        """Keep in the run directory that the fit has come to its end, or that one begins."""
        is_writer = self.strategy.is_global_zero and self._writes_files() and not self.settings.fast_dev_run
        if is_writer and not self.is_finished:
            from lightkit.run import resume

            self.directory.note_end(resume.end_of(self) if is_end else None)

    def ended(self) -> None:
        """As Run.ended; a start with resume="auto" is told so."""
        self._note(is_end=True)

    def check_hooks(self) -> None:
        """Raise HookError where a hook is missing that no fit can do without."""
        module = self.module
        name = type(module).__name__
        if not overrides(module, LightModule, "training_step"):
            raise HookError(
                f"{name}.training_step is not defined; fit needs it: def training_step(self, batch, batch_idx) -> loss"
            )
        if not overrides(module, LightModule, "configure_optimizers"):
            raise HookError(
                f"{name}.configure_optimizers is not defined; return an optimizer, for example "
                "torch.optim.AdamW(self.parameters(), lr=1e-3), or None to train without one"
            )
        if not module.automatic_optimization:
            from lightkit.loops.steps.manual import check_manual

            check_manual(self.controls, module)

    def configure_optimizers(self) -> None:
        """Ask the module for its optimizers and schedulers."""
        module = self.module
        where = f"{type(module).__name__}.configure_optimizers"
        is_manual = not module.automatic_optimization
        found = optimizers.parse(module.configure_optimizers(), where, is_manual=is_manual)
        if len(found.optimizers) > 1 and not is_manual:
            raise ConfigError(
                f"{where} returned {len(found.optimizers)} optimizers; automatic optimization steps one. Put all "
                "parameters into one optimizer, with a parameter group for each learning rate, or set "
                "self.automatic_optimization = False and step each in training_step"
            )
        if not found.optimizers:
            warnings.warn(f"{where} returned None: the training steps run, no weight changes", stacklevel=2)
        self.compute.prepare_optimizers(found.optimizers)
        self.optimization = found
        if is_manual:
            from lightkit.loops.steps.manual import ManualOptimization

            self.manual = ManualOptimization(self, self.loop, found.optimizers)

    def validate(self) -> bool:
        """One validation in between; False where there was nothing to validate with."""
        assert self.data.validation is not None
        return self.data.validation.validate()

    def stop_by_signal(self, broken_off: BrokenOff | None = None) -> Never:
        """Save the fit as it is between two steps, and end it. broken_off: the validation that the signal came in."""
        if self.controls.stop_signal != signal.SIGINT:
            from lightkit.run import stopping

            stopping.save(self, broken_off)
        raise stopped_by(self.controls.stop_signal)

    # ------------------------------------------------------------ what its loop uses

    @property
    def optimizer(self) -> Optimizer | None:
        """The one that automatic optimization steps; the first of manual optimization's; or None."""
        return self.optimization.optimizers[0] if self.optimization.optimizers else None

    def refresh(self) -> None:
        """As Run.refresh."""
        if self.results is not None and self.results.is_training:
            self.loop.show_step()
        else:
            super().refresh()

    def log_returned(self, output: Mapping[str, object]) -> None:
        """Log what a step returned beside the loss, in the earlier style."""
        if "log" in output or "progress_bar" in output:
            from lightkit.legacy.style import log_returned

            log_returned(self.loop.results, output)

    def _writes_files(self) -> bool:
        return super()._writes_files() or any(isinstance(c, Checkpoint) for c in self.callbacks)

    def save_checkpoint(self, path: str | Path, rng: Snapshot | None, *, weights_only: bool) -> None:
        """As Run.save_checkpoint; while it trains, nothing is saved where the loss or a weight is NaN or infinite."""
        if self.status == "running" and self.is_open:
            self.loop.check_weights()
        super().save_checkpoint(path, rng, weights_only=weights_only)
        if self.leftovers is not None and not weights_only:
            from lightkit.checkpoint.places import place

            self.leftovers.leave(self.writer, place(path))

    def go_back(self) -> None:
        """As Run.go_back; to the beginning of the accumulation window, where somebody saves now."""
        if self.loop.guard is not None:
            self.loop.guard.go_back()

    def say_nothing_to_do(self, reason: str) -> None:
        """The fit ends before its first batch."""
        from lightkit.run.standstill import say_nothing_to_do

        say_nothing_to_do(self, reason)

    def check_progress(self, epochs: int, *, is_first: bool) -> None:
        """So many epochs in a row have taken no optimizer step; see `standstill.check_progress`."""
        from lightkit.run.standstill import check_progress

        check_progress(self, epochs, is_first=is_first)

    def read_sources(self) -> list[Source]:
        """As Run.read_sources."""
        return self.data.read_sources()

    def release(self, *, has_failed: bool) -> None:
        """As Run.release; the training loop and its sources let go of what they hold."""
        super().release(has_failed=has_failed)
        self.loop.release()
        self.data.release(has_failed=has_failed)
