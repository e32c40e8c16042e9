"""Another number of micro-batches for each update from an epoch on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["GradientAccumulationScheduler"]


class GradientAccumulationScheduler(Callback):
    """Sets `trainer.accumulate_grad_batches` when an epoch begins; after the fit it is 1 again.

    Names and semantics are Lightning 2.6's.

    Args:
        scheduling: the number of micro-batches in an update by the epoch, from 0, that it holds from:
            `{0: 8, 4: 4, 8: 1}`. Before the first epoch named it is 1.

    Raises:
        ConfigError: an empty dict, a negative epoch, a number below 1; while running, a module with manual optimization
            or a Trainer that has `accumulate_grad_batches` of its own.
    """

    def __init__(self, scheduling: dict[int, int]) -> None:
        where = f"GradientAccumulationScheduler(scheduling={scheduling!r})"
        if not isinstance(scheduling, dict) or not scheduling:
            raise ConfigError(f"{where}: expected a dict such as {{4: 2}}, from epoch 4 on two micro-batches an update")
        if not all(_is_count(epoch, 0) for epoch in scheduling):
            raise ConfigError(f"{where}: expected epochs, whole numbers from 0, as keys")
        if not all(_is_count(factor, 1) for factor in scheduling.values()):
            raise ConfigError(f"{where}: expected numbers of micro-batches, of at least 1, as values")
        self.scheduling = {0: 1, **scheduling}
        self.epochs = sorted(self.scheduling)
        self._is_at_work = False

    def going_to_accumulate_grad_batches(self) -> bool:
        """Whether any epoch has more than one micro-batch in an update."""
        return any(factor > 1 for factor in self.scheduling.values())

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """Return how many micro-batches an update has in this epoch."""
        return self.scheduling[max(first for first in self.epochs if first <= epoch)]

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Refuse what cannot work; a resumed run may go on inside an epoch that has begun."""
        name = type(pl_module).__name__
        if not pl_module.automatic_optimization:
            raise ConfigError(
                f"GradientAccumulationScheduler: {name} optimizes by itself (automatic_optimization = False); leave "
                "the callback out and count micro-batches in training_step"
            )
        if trainer.accumulate_grad_batches != 1:
            given = f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches})"
            raise ConfigError(f"{given}: GradientAccumulationScheduler sets it; give one of them")
        self._is_at_work = True
        self._set(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Set the number for the epoch that begins."""
        self._set(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Leave the Trainer as it was."""
        if stage == "fit" and self._is_at_work:
            self._is_at_work, trainer.accumulate_grad_batches = False, 1

    def _set(self, trainer: Trainer) -> None:
        trainer.accumulate_grad_batches = self.get_accumulate_grad_batches(trainer.current_epoch)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
