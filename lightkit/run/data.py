"""The data of a fit: its training source, its validation, when one interrupts the other; asked for again where due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightkit.data import sources
from lightkit.data.order import Source
from lightkit.errors import DataError
from lightkit.hooks import overrides
from lightkit.loops.no_validation import NoValidation
from lightkit.module import LightModule

if TYPE_CHECKING:
    from lightkit.loops.validation_plan import ValidationPlan
    from lightkit.run.fit import FitRun
    from lightkit.run.validation import FitValidation


class FitData:
    """Loaders of a fit, read as sources."""

    source: Source  # of the training
    plan: ValidationPlan | NoValidation

    def __init__(self, run: FitRun, train: object, val: object):
        self.run, self.given_train, self.given_val = run, train, val
        self.validation: FitValidation | None = None  # None: there is none
        self.num_batches: float = math.inf  # of a training epoch
        self._is_loaded = False
        self._loaded_epoch = 0
        self._lengths: list[float] = []  # of the training loaders

    @property
    def reloads_every(self) -> int:
        """Every how many epochs the loaders are asked for again; 0: never."""
        return self.run.controls.reload_dataloaders_every_n_epochs

    def load(self) -> None:
        """Ask for the training loader; those of the validation, if there is one, are asked for later."""
        self.load_training()
        self.find_validation()
        self.plan_validation()

    @property
    def enable_validation(self) -> bool:
        """Whether there is to be any validation, as far as that is known."""
        return self.validation is not None and self.validation.has_batches

    def find_validation(self) -> None:
        """Find out whether somebody has a step and loaders for a validation."""
        run = self.run
        has_step = overrides(run.module, LightModule, "validation_step") and run.controls.limit_val_batches != 0
        self.validation = None
        if has_step and sources.has_loaders("val", self.given_val, run.datamodule, run.module):
            from lightkit.run.validation import FitValidation

            self.validation = FitValidation(run, self.given_val)

    def plan_validation(self) -> None:
        """Find out when the training is interrupted for a validation."""
        if not self.enable_validation:
            self.plan = NoValidation()
            return
        from lightkit.intervals import parse_validation_interval
        from lightkit.loops.validation_plan import ValidationPlan

        interval = parse_validation_interval(self.run.settings.val_check_interval)
        self.plan = ValidationPlan(interval, self.run.controls, self.num_batches)

    def load_training(self) -> None:
        """Ask for the training loader, unless configure_optimizers has, through estimated_stepping_batches."""
        if self._is_loaded:
            return
        run, settings = self.run, self.run.settings
        loader = sources.find_loaders("train", self.given_train, run.datamodule, run.module)
        if loader is None:
            raise DataError(
                "fit: no training data; pass train_dataloaders=..., datamodule=..., or define "
                f"{type(run.module).__name__}.train_dataloader"
            )
        where = "train_dataloaders" if self.given_train is not None else "train_dataloader()"
        self.source = sources.sources_of(
            loader, where, is_sequential=bool(settings.overfit_batches), is_training=True,
            steps_hold=lambda: run.controls.accumulate_grad_batches,
        )[0]  # fmt: skip
        self._lengths = self.source.lengths()
        self.num_batches = self._limited()
        run.loaders.take("train", loader, [self.num_batches])
        # after a resume, too, the loader is asked for again in the epochs in which an uninterrupted run does it
        every = self.reloads_every or 1
        self._is_loaded, self._loaded_epoch = True, run.position.counters.epoch // every * every

    def _limited(self) -> float:
        """Batches of a training epoch, of a loader with as many as it has now."""
        return self.source.limited(self.run.controls.limit_train_batches, "limit_train_batches")

    def reload_if_due(self, epoch: int) -> None:
        """Ask for the loader again where `reload_dataloaders_every_n_epochs` says so; else look at its length."""
        if self.reloads_every and epoch - self._loaded_epoch >= self.reloads_every:
            self.source.release(has_failed=False)
            self._is_loaded = False
            self.load_training()
            self.plan_validation()
        elif (lengths := self.source.lengths()) != self._lengths:  # a data set has grown, or shrunk
            self.source.check()
            self._lengths = lengths
            self.num_batches = self._limited()
            self.run.loaders.counts["train"] = [self.num_batches]
            self.plan_validation()

    def forget(self) -> None:
        """These loaders are read no more: others are asked for when they are needed next."""
        self.release(has_failed=False)
        self._is_loaded = False
        if self.validation is not None:
            self.validation.forget()

    def reloads_at(self, epoch: int) -> bool:
        """Whether an epoch begins with loaders that were asked for again."""
        return self.reloads_every > 0 and epoch % self.reloads_every == 0

    def estimated_stepping_batches(self) -> float:
        """See Trainer.estimated_stepping_batches."""
        from lightkit.run.estimate import stepping_batches

        return stepping_batches(self)

    def read_sources(self) -> list[Source]:
        """Those that there are, the training's first."""
        found = [self.source] if self._is_loaded else []
        validation = None if self.validation is None else self.validation.loop
        return found if validation is None else [*found, *validation.sources]

    def release(self, *, has_failed: bool) -> None:
        """These loaders are read no more: let go of what holds processes."""
        if self._is_loaded:
            self.source.release(has_failed=has_failed)
        if self.validation is not None:
            self.validation.release(has_failed=has_failed)
