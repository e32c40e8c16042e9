"""The callbacks that look for a learning rate or a batch size when a run begins; `lightkit.callbacks` names them.

They stand here because they use runs, which callbacks in general know nothing of.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lightkit.callbacks.base import Callback
from lightkit.run.fit import FitRun
from lightkit.tuner import batch_size_scaling, lr_finder
from lightkit.tuner.lr_finder import LRFinder
from lightkit.tuner.trial import Trial

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer


class LearningRateFinder(Callback):
    """Looks for a learning rate when a fit begins, and trains with it; arguments as `Tuner.lr_find`.

    `optimal_lr` is what was found, a `LRFinder`. A fit that is resumed goes on with the rate of its checkpoint. For
    another moment override `on_fit_start`, and call `lr_find(trainer, pl_module)` in the hook that you want.
    """

    SUPPORTED_MODES: ClassVar[tuple[str, ...]] = ("linear", "exponential")

    def __init__(
        self, min_lr: float = 1e-8, max_lr: float = 1, num_training_steps: int = 100, mode: str = "exponential",
        early_stop_threshold: float | None = 4.0, update_attr: bool = True, attr_name: str = "",
    ) -> None:  # fmt: skip
        self._search = lr_finder.Search(
            who=type(self).__name__, min_lr=min_lr, max_lr=max_lr, num_training=num_training_steps, mode=mode,
            early_stop_threshold=early_stop_threshold, update_attr=update_attr, attr_name=attr_name,
            count_name="num_training_steps",
        )  # fmt: skip
        self.optimal_lr: LRFinder | None = None
        self._rate: float | None = None  # that a run which is resumed goes on with
        self._is_resumed = False

    def lr_find(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a rate now; afterwards all is as before, but for the rate."""
        if trainer.fast_dev_run:
            warnings.warn(f"{self._search.who}: no learning rate is looked for with fast_dev_run", stacklevel=2)
            return
        self.optimal_lr, self._rate = self._search.run(trainer.fit_loop.run)

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a rate, unless the run goes on from a checkpoint."""
        is_resumed, self._is_resumed = self._is_resumed, False
        if not is_resumed:
            self.lr_find(trainer, pl_module)
        elif self._rate is not None and (attribute := self._search.attribute(trainer.fit_loop.run)) is not None:
            attribute.set(self._rate)  # the optimizer has its own from the checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The rate, and what it was found by."""
        return {"rate": self._rate, "results": {} if self.optimal_lr is None else self.optimal_lr.results}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take it back: nothing is looked for when the fit goes on."""
        self._rate, self._is_resumed = state_dict["rate"], True
        if state_dict["results"]:
            asked = self._search
            found = LRFinder(asked.mode, asked.min_lr, asked.max_lr, asked.num_training)
            found.results.update(state_dict["results"])
            self.optimal_lr = found


class BatchSizeFinder(Callback):
    """Looks for the largest batch that fits when a run begins, and goes on with it; arguments as in `Tuner`.

    `optimal_batch_size` is what was found. A fit that is resumed goes on with the size of its checkpoint. For another
    moment override `on_fit_start`, and call `scale_batch_size(trainer, pl_module)` in the hook that you want: one that
    comes before the first batch.
    """

    SUPPORTED_MODES: ClassVar[tuple[str, ...]] = batch_size_scaling.MODES

    def __init__(
        self, mode: str = "power", steps_per_trial: int = 3, init_val: int = 2, max_trials: int = 25,
        batch_arg_name: str = "batch_size", margin: float = 0.05, max_val: int = 8192,
    ) -> None:  # fmt: skip
        self._search = batch_size_scaling.Search(
            who=type(self).__name__, mode=mode, steps_per_trial=steps_per_trial, init_val=init_val,
            max_trials=max_trials, batch_arg_name=batch_arg_name, margin=margin, max_val=max_val,
        )  # fmt: skip
        self.optimal_batch_size: int | None = init_val
        self._resumed: int | None = None

    def scale_batch_size(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a batch size now; afterwards all is as before, but for the size."""
        if trainer.fast_dev_run:
            warnings.warn(f"{self._search.who}: no batch size is looked for with fast_dev_run", stacklevel=2)
            self.optimal_batch_size = None
            return
        self.optimal_batch_size = self._search.run(Trial.run_of(trainer))

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a size, unless the run goes on from a checkpoint."""
        size, self._resumed = self._resumed, None
        if size is None:
            self.scale_batch_size(trainer, pl_module)
            return
        run = Trial.run_of(trainer)
        assert isinstance(run, FitRun)
        self._search.attribute(run).set(size)
        run.data.forget()

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a size, where the validation is a run of its own."""
        if trainer.state.fn == "validate":
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a size."""
        self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look for a size."""
        self.scale_batch_size(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The size that was found."""
        return {"batch_size": self.optimal_batch_size}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take it back: nothing is looked for when the fit goes on."""
        self.optimal_batch_size = self._resumed = state_dict["batch_size"]
