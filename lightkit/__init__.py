"""lightkit: a thin, high-level training framework on PyTorch.

import lightkit as lk

class Model(lk.LightModule): ...

lk.Trainer(max_epochs=3).fit(Model(), train_loader, val_loader)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightkit.version import __version__

if TYPE_CHECKING:
    from lightkit import callbacks, cli, data, errors, loggers, profilers, utilities
    from lightkit.callbacks.base import Callback
    from lightkit.datamodule import LightDataModule
    from lightkit.datamodule import LightDataModule as LightningDataModule
    from lightkit.module import LightModule
    from lightkit.module import LightModule as LightningModule
    from lightkit.seeding import seed_everything
    from lightkit.trainer import Trainer

__all__ = [
    "Callback", "LightDataModule", "LightModule", "LightningDataModule", "LightningModule", "Trainer", "__version__",
    "callbacks", "cli", "data", "errors", "loggers", "profilers", "seed_everything", "utilities",
]  # fmt: skip

# name -> (module, attribute); imported when first used, so that `import lightkit` costs next to nothing
_LAZY = {
    "LightModule": ("lightkit.module", "LightModule"),
    "LightningModule": ("lightkit.module", "LightModule"),
    "LightDataModule": ("lightkit.datamodule", "LightDataModule"),
    "LightningDataModule": ("lightkit.datamodule", "LightDataModule"),
    "Trainer": ("lightkit.trainer", "Trainer"),
    "Callback": ("lightkit.callbacks.base", "Callback"),
    "seed_everything": ("lightkit.seeding", "seed_everything"),
}
_ROOMS = ("callbacks", "cli", "data", "errors", "loggers", "profilers", "utilities")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        value = getattr(importlib.import_module(module), attribute)
    elif name in _ROOMS:
        value = importlib.import_module(f"lightkit.{name}")
    else:
        raise AttributeError(f"module 'lightkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
