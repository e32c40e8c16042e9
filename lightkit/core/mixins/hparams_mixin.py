"""`save_hyperparameters` for objects that are neither module nor data module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType

from lightkit import hparams as hyper


class HyperparametersMixin:
    """Keeps the constructor's arguments in `hparams`; LightModule and LightDataModule have it built in."""

    __jit_unused_properties__ = ["hparams", "hparams_initial"]

    def __init__(self) -> None:
        super().__init__()
        vars(self).setdefault("_hyperparameters", hyper.Hyperparameters())  # some save theirs before they call this

    def save_hyperparameters(
        self, *args: object, ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:  # fmt: skip
        """Keep the constructor's arguments in `hparams`; call it in `__init__`."""
        self._hyperparameters = hyper.collect(self, args, ignore, frame or sys._getframe(1), logger)

    @property
    def hparams(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept; attributes and items."""
        return hyper.of(self).values

    @property
    def hparams_initial(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept, as it was then."""
        return hyper.of(self).initial
