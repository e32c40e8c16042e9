"""What a config may hold, and which classes stand behind each part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.datamodule import LightDataModule
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer


@dataclass(frozen=True)
class Kinds:
    """The classes that a command line builds.

    `model` and `data` are the classes whose subclasses may be named, or, where `model_is_fixed` or
    `data_is_fixed`, the very class, whose arguments then stand directly under `model:` or `data:`.
    `bases` is what a class named under that top-level key must derive from.
    """

    trainer: type[Trainer]
    model: type[LightModule]
    data: type[LightDataModule]
    model_is_fixed: bool = False
    data_is_fixed: bool = False
    bases: dict[str, type] = field(default_factory=dict)

    def fixed(self, name: str) -> type | None:
        """The class whose arguments stand directly under the key `name`, or None."""
        if name == "model":
            return self.model if self.model_is_fixed else None
        return self.data if self.data_is_fixed else None


def standard_kinds(
    model: type[LightModule] | None = None,
    data: type[LightDataModule] | None = None,
    *,
    any_model: bool = False,
    any_data: bool = False,
) -> Kinds:
    """The kinds of `lightkit fit`; a class given is fixed unless any subclass may be named."""
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from lightkit import callbacks, loggers
    from lightkit.datamodule import LightDataModule
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

    for room in (callbacks, loggers):  # so that short names such as EarlyStopping are known
        for name in getattr(room, "__all__", ()):
            getattr(room, name)
    model_base, data_base = model or LightModule, data or LightDataModule
    return Kinds(
        trainer=Trainer,
        model=model_base,
        data=data_base,
        model_is_fixed=model is not None and not any_model,
        data_is_fixed=data is not None and not any_data,
        bases={
            "model": model_base,
            "data": data_base,
            "optimizer": Optimizer,
            "lr_scheduler": LRScheduler,
        },
    )
