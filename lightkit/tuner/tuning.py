"""Tuner: a learning rate or a batch size that is looked for before the training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from lightkit.data import sources
from lightkit.errors import ConfigError
from lightkit.module import LightModule
from lightkit.run.fit import FitRun
from lightkit.trainer import Trainer
from lightkit.tuner import attributes, batch_size_scaling, lr_finder
from lightkit.tuner.as_before import as_before, leaves
from lightkit.tuner.finders import BatchSizeFinder, LearningRateFinder
from lightkit.tuner.lr_finder import LRFinder
from lightkit.tuner.trial import Trial, changes_module

if TYPE_CHECKING:
    from lightkit.callbacks.base import Callback
    from lightkit.datamodule import LightDataModule
    from lightkit.run.base import Run

Method = Literal["fit", "validate", "test", "predict"]
_METHODS = ("fit", "validate", "test", "predict")


class Tuner:
    """Looks for what a Trainer is to train with. Names, arguments and defaults are Lightning 2.6's.

    What is tried runs on a Trainer of its own with the settings of this one: loggers and callbacks have no part in it
    (but `setup` and `teardown` of copies of the callbacks, which may freeze layers), no file is written. Module and
    generators are afterwards as they were, to the bit, but for the attribute that was looked for; also after an error.
    """

    def __init__(self, trainer: Trainer) -> None:
        if not isinstance(trainer, Trainer):
            raise ConfigError(f"Tuner(trainer): expected a Trainer, got {type(trainer).__name__}")
        self._trainer = trainer

    def lr_find(
        self, model: LightModule, train_dataloaders: Any = None, val_dataloaders: Any = None, dataloaders: Any = None,
        datamodule: LightDataModule | None = None, method: Method = "fit", min_lr: float = 1e-8, max_lr: float = 1,
        num_training: int = 100, mode: str = "exponential", early_stop_threshold: float | None = 4.0,
        update_attr: bool = True, attr_name: str = "",
    ) -> LRFinder | None:  # fmt: skip
        """Train `num_training` steps with rates from `min_lr` to `max_lr`; -> rates, losses, and what they suggest.

        mode: how the rate grows, "exponential" or "linear". early_stop_threshold: end where the smoothed loss is more
        than so many times the best one; None: never. update_attr: set `lr` or `learning_rate` (or `attr_name`) of the
        module, its hyperparameters and the data module to the suggestion. With fast_dev_run nothing is tried: None.

        Raises:
            ConfigError: a wrong argument, no such attribute, several optimizers, manual optimization.
        """
        if method != "fit":
            raise ConfigError(f"lr_find(method={method!r}): a learning rate is looked for in a training; use 'fit'")
        asked = lr_finder.Search(
            min_lr=min_lr, max_lr=max_lr, num_training=num_training, mode=mode,
            early_stop_threshold=early_stop_threshold, update_attr=update_attr, attr_name=attr_name,
        )  # fmt: skip
        given = self._given("lr_find", method, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        if self._skips("lr_find", LearningRateFinder):
            return None
        with self._set_up(method, model, given) as run:
            assert isinstance(run, FitRun)
            attribute, finder = asked.attribute(run), asked.trial(run)
        asked.take(attribute, finder)
        return finder

    def scale_batch_size(
        self, model: LightModule, train_dataloaders: Any = None, val_dataloaders: Any = None, dataloaders: Any = None,
        datamodule: LightDataModule | None = None, method: Method = "fit", mode: str = "power",
        steps_per_trial: int = 3, init_val: int = 2, max_trials: int = 25, batch_arg_name: str = "batch_size",
        margin: float = 0.05, max_val: int = 8192,
    ) -> int | None:  # fmt: skip
        """Run a few steps with ever larger batches until memory runs out; -> the largest size that fits, which is set.

        method: what the steps are of. mode: "power" doubles the size; "binsearch" then looks between the last that fits
        and the first that does not, and leaves a share of `margin`. steps_per_trial: optimizer steps, or batches of an
        evaluation, with each size, from `init_val` on. max_trials: sizes that are tried. max_val: the largest of them.
        batch_arg_name: the attribute of the module, its hyperparameters or the data module that the loaders are made
        with. It ends, too, where a batch is the whole data set. With fast_dev_run nothing is tried: None.

        Raises:
            ConfigError: a wrong argument, no such attribute, loaders that do not depend on it, or no size that fits.
        """
        method = cast(Method, attributes.chosen("scale_batch_size", "method", method, _METHODS))
        asked = batch_size_scaling.Search(
            mode=mode, steps_per_trial=steps_per_trial, init_val=init_val, max_trials=max_trials,
            batch_arg_name=batch_arg_name, margin=margin, max_val=max_val,
        )  # fmt: skip
        given = self._given("scale_batch_size", method, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        if self._skips("scale_batch_size", BatchSizeFinder):
            return None
        with self._set_up(method, model, given) as run:
            attribute, size = asked.attribute(run), asked.trial(run)
        asked.take(attribute, size)
        return size

    def _given(
        self, who: str, method: str, train: object, val: object, dataloaders: object, datamodule: LightDataModule | None
    ) -> _Given:
        """The data that was given, where that fits the method."""
        if method == "fit" and dataloaders is not None:
            raise ConfigError(
                f"{who}(dataloaders=...): with method='fit' write train_dataloaders=..., val_dataloaders=..."
            )
        if method != "fit" and (train is not None or val is not None):
            raise ConfigError(
                f"{who}(train_dataloaders=..., val_dataloaders=...): with method={method!r} write dataloaders=..."
            )
        if method == "fit":
            loaders, datamodule = sources.data_of(train, datamodule, "train_dataloaders", val)
            return _Given((loaders, val), datamodule)
        loaders, datamodule = sources.data_of(dataloaders, datamodule, "dataloaders")
        return _Given((loaders,), datamodule)

    def _skips(self, who: str, kind: type[Callback]) -> bool:
        """Whether nothing is to be tried; raises ConfigError where a callback of the Trainer does the same."""
        if any(isinstance(callback, kind) for callback in self._trainer.callbacks):
            raise ConfigError(f"{who}: this Trainer has a {kind.__name__}, which does the same; leave one of them out")
        if self._trainer.fast_dev_run:
            warnings.warn(f"{who}: nothing is looked for with fast_dev_run", stacklevel=3)
        return bool(self._trainer.fast_dev_run)

    @contextmanager
    def _set_up(self, method: Method, model: LightModule, given: _Given) -> Iterator[Run]:
        """A run that is set up, and trains nothing; afterwards all is as it was."""
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if not isinstance(model, LightModule):
            raise ConfigError(
                f"Tuner: expected a LightModule, got {type(model).__name__}; subclass lightkit.LightModule"
            )
        callbacks = [callback for callback in self._trainer.callbacks if changes_module(callback)]
        trial = Trial(self._trainer, callbacks=callbacks, max_steps=-1, max_epochs=self._trainer.max_epochs)
        with as_before(model, given.datamodule, [], self._trainer.precision, leaves(given.loaders)):
            with trial.preparing(method, model, given.datamodule, *given.loaders) as run:
                yield run
        if given.datamodule is not None:
            given.datamodule._attach_trainer(self._trainer)


class _Given(NamedTuple):
    loaders: tuple[object, ...]
    datamodule: LightDataModule | None
