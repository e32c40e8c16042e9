"""Which classes stand behind each part of a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jsonargparse import ArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightkit import callbacks, loggers
from lightkit.datamodule import LightDataModule
from lightkit.module import LightModule


def bases_of(model: type[LightModule] = LightModule, data: type[LightDataModule] = LightDataModule) -> dict[str, type]:
    """What may be named under each top-level key."""
    for room in (callbacks, loggers):  # so that short names such as EarlyStopping are known
        for name in room.__all__:
            getattr(room, name)
    return {"model": model, "data": data, "optimizer": Optimizer, "lr_scheduler": LRScheduler}


@dataclass(frozen=True)
class Kinds:
    """What a command line builds beside a Trainer.

    `bases` is what a class named under a top-level key must derive from. Of those that are `fixed` it is the very
    class, whose arguments then stand directly under the key. `extend` may add arguments to the parser.
    """

    bases: dict[str, type] = field(default_factory=bases_of)
    fixed: frozenset[str] = frozenset()
    trainer_defaults: dict[str, Any] = field(default_factory=dict)
    seed_default: bool | int | None = True
    extend: Callable[[ArgumentParser], None] = lambda parser: None
