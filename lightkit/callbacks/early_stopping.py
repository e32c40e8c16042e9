"""Stop training when a metric no longer gets better."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lightkit.callbacks.base import Callback
from lightkit.devices.transfer import to_cpu
from lightkit.earlier_arguments import required_now
from lightkit.errors import ConfigError
from lightkit.monitoring import begins, monitored_value, validates_once_an_epoch

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["EarlyStopping", "EarlyStoppingReason"]


class EarlyStoppingReason(IntEnum):
    """Why training was stopped; the numbers are Lightning's."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


class EarlyStopping(Callback):
    """Stops training when the monitored metric has not improved for `patience` checks in a row.

    Arguments, defaults and semantics are those of Lightning 2.6.

    Args:
        monitor: the logged metric to watch; "val_loss" in programs of before 1.4, which leave it out.
        min_delta: what counts as an improvement: a change by more than this.
        patience: how many checks in a row without an improvement end the run.
        verbose: say when the metric improves and why training stops.
        mode: "min" or "max": which way is better.
        strict: a metric that is missing at a check is an error; otherwise that check is left out.
        check_finite: stop when the metric is NaN or infinite.
        stopping_threshold: stop as soon as the metric is better than this.
        divergence_threshold: stop as soon as the metric is worse than this.
        check_on_train_epoch_end: check at the end of the training epoch, not of the validation. Default:
            where validation runs once at the end of every epoch.
        log_rank_zero_only: what `verbose` says is said by one process only.
        restore_best_weights: when the training ends, early or not, the module gets the weights back that it had at its
            best check, as with Keras; without any improvement those of the first check. They are kept in the host's
            memory and in every checkpoint, so that a resumed run restores the same.

    Raises:
        ConfigError: a `mode` or `patience` that cannot work; while running, a `monitor` never logged.
    """

    mode_dict: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {"min": torch.lt, "max": torch.gt}
    order_dict: ClassVar[dict[str, str]] = {"min": "<", "max": ">"}

    @required_now("monitor")
    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 3, verbose: bool = False,
        mode: str = "min", strict: bool = True, check_finite: bool = True, stopping_threshold: float | None = None,
        divergence_threshold: float | None = None, check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False, *, restore_best_weights: bool = False,
    ) -> None:  # fmt: skip
        if mode not in ("min", "max"):
            raise ConfigError(f"EarlyStopping(mode={mode!r}): expected 'min' or 'max'.")
        if patience < 0:
            raise ConfigError(f"EarlyStopping(patience={patience!r}): expected 0 or a positive number.")
        self.monitor = monitor
        self.min_delta = min_delta * (1 if mode == "max" else -1)
        self.patience = self._given_patience = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self.restore_best_weights = restore_best_weights
        self._check_on_train_epoch_end = check_on_train_epoch_end
        self._begin()

    def _begin(self) -> None:
        """Nothing has been seen yet."""
        self.patience = self._given_patience  # a checkpoint may have brought another
        self.wait_count = 0
        self.stopped_epoch = 0
        self._had_stopped = False  # says the checkpoint that was loaded
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self.best_score = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)
        self.best_weights: dict[str, Any] | None = None
        self._lacks_best = False  # a checkpoint had a best score, but not its weights

    @property
    def state_key(self) -> str:
        """The class with what may differ between two of them in one trainer."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Forget what another Trainer's fit has seen; a checkpoint brings its own."""
        if begins(trainer, stage):
            self._begin()

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """A run that had stopped early stays stopped when its checkpoint is started again."""
        trainer.should_stop = trainer.should_stop or self._had_stopped
        self._had_stopped = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Check the metric, if this is the time to."""
        self._check(trainer, pl_module, is_train_epoch_end=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Check the metric, if this is the time to."""
        self._check(trainer, pl_module, is_train_epoch_end=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Give the module its best weights back, where that was asked for and there are some."""
        if self.restore_best_weights and self.best_weights is not None:
            from lightkit.checkpoint import weights

            weights.load(pl_module, self.best_weights, f"EarlyStopping(monitor={self.monitor!r})")
            if self.verbose:
                trainer.print(f"EarlyStopping: the module has the weights of its best {self.monitor} again.")

    def _check(self, trainer: Trainer, pl_module: LightModule, *, is_train_epoch_end: bool) -> None:
        """Where it is time to, compare the metric with the best so far; stop the trainer where that says so."""
        given = self._check_on_train_epoch_end
        if is_train_epoch_end != (validates_once_an_epoch(trainer) if given is None else given):
            return
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:
            return
        if not self.strict and self.monitor not in trainer.callback_metrics:
            return
        who = f"EarlyStopping(monitor={self.monitor!r})"
        current = monitored_value(trainer.callback_metrics, self.monitor, who)
        if self.restore_best_weights:
            # asked before it is judged: a value beyond the stopping_threshold leaves best_score as it was
            is_first = self.best_weights is None and not self._lacks_best
            is_usable = not self.check_finite or bool(torch.isfinite(current))
            if is_first or (is_usable and self._is_better(current - self.min_delta, self.best_score)):
                self.best_weights = to_cpu(pl_module.state_dict())
        message = self._judge(current)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason_message = message
        if message and self.verbose:
            trainer.print(message)

    @property
    def monitor_op(self) -> Callable[[Tensor, Tensor], Tensor]:
        """What says that a value is better than another: torch.lt or torch.gt."""
        return self.mode_dict[self.mode]

    def _is_better(self, value: Tensor | float, than: Tensor | float) -> bool:
        return bool(value < than if self.mode == "min" else value > than)

    def _judge(self, current: Tensor) -> str:
        """Set the reason to stop, if there is one, and the best score; return what to say about it."""
        name, now = self.monitor, f"{float(current):.5g}"
        best = f"{float(self.best_score):.5g}"
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        if self.check_finite and not torch.isfinite(current):
            self.stopping_reason = EarlyStoppingReason.NON_FINITE_METRIC
            return f"EarlyStopping: {name} = {now} is not finite (best so far {best}); stopping."
        if self.stopping_threshold is not None and self._is_better(current, self.stopping_threshold):
            self.stopping_reason = EarlyStoppingReason.STOPPING_THRESHOLD
            return f"EarlyStopping: {name} = {now} has passed {self.stopping_threshold}; stopping."
        if self.divergence_threshold is not None and self._is_better(-current, -self.divergence_threshold):
            self.stopping_reason = EarlyStoppingReason.DIVERGENCE_THRESHOLD
            return f"EarlyStopping: {name} = {now} is worse than {self.divergence_threshold}; stopping."
        if self._is_better(current - self.min_delta, self.best_score):
            self.best_score = current
            self.wait_count = 0
            return f"EarlyStopping: {name} = {now} is the best so far (before: {best})."
        self.wait_count += 1
        if self.wait_count >= self.patience:
            self.stopping_reason = EarlyStoppingReason.PATIENCE_EXHAUSTED
            return f"EarlyStopping: {name} did not improve on {best} in {self.wait_count} checks; stopping."
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, how long ago it was, and the weights that reached it, where they are asked for."""
        kept = {} if self.best_weights is None else {"best_weights": self.best_weights}
        return {
            "wait_count": self.wait_count, "stopped_epoch": self.stopped_epoch, "best_score": self.best_score,
            "patience": self.patience, "stopping_reason": int(self.stopping_reason),
            "stopping_reason_message": self.stopping_reason_message, **kept,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on waiting where the checkpoint was taken; StateError for what is no state of this callback."""
        from lightkit.schema import ANYTHING, SCALAR, TEXT, WHOLE, Choice, DictOf, Record, optional

        reasons = Choice(tuple(int(reason) for reason in EarlyStoppingReason))
        Record(
            {"wait_count": WHOLE, "stopped_epoch": WHOLE, "best_score": SCALAR, "patience": WHOLE},
            {"stopping_reason": reasons, "stopping_reason_message": optional(TEXT),
             "best_weights": DictOf(ANYTHING)},
        ).check(state_dict)
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = torch.as_tensor(state_dict["best_score"]).cpu()
        self.patience = state_dict["patience"]
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self.stopping_reason_message = state_dict.get("stopping_reason_message")
        self.best_weights = state_dict.get("best_weights") if self.restore_best_weights else None
        self._lacks_best = self.best_weights is None and bool(torch.isfinite(self.best_score))
        if self.restore_best_weights and self._lacks_best:
            warnings.warn(
                f"EarlyStopping(monitor={self.monitor!r}, restore_best_weights=True): the checkpoint has a best score "
                f"({float(self.best_score):.5g}) without its weights; only those of a better one are restored",
                stacklevel=2,
            )
        self._had_stopped = self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED
