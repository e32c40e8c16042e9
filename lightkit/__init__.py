"""lightkit: a thin, high-level training framework on PyTorch.

import lightkit as lk

class Model(lk.LightModule): ...

lk.Trainer(max_epochs=3).fit(Model(), train_loader, val_loader)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import answer_imports, attach
from lightkit.ranks import tell_lightning_utilities
from lightkit.version import __version__

if TYPE_CHECKING:
    from lightkit import callbacks, cli, data, errors, loggers, profilers, tuner, utilities
    from lightkit.callbacks.base import Callback
    from lightkit.datamodule import LightDataModule
    from lightkit.datamodule import LightDataModule as LightningDataModule
    from lightkit.global_seed import seed_everything
    from lightkit.module import LightModule
    from lightkit.module import LightModule as LightningModule
    from lightkit.supervised_module import Supervised, supervised
    from lightkit.trainer import Trainer

__all__ = [
    "Callback", "LightDataModule", "LightModule", "LightningDataModule", "LightningModule", "Supervised", "Trainer",
    "__version__", "callbacks", "cli", "data", "errors", "loggers", "profilers", "seed_everything", "supervised",
    "tuner", "utilities",
]  # fmt: skip

# imported when first used, so that `import lightkit` costs next to nothing
attach(
    __name__,
    {
        "LightModule": "module", "LightningModule": "module:LightModule",
        "LightDataModule": "datamodule", "LightningDataModule": "datamodule:LightDataModule",
        "Trainer": "trainer", "Callback": "callbacks.base", "seed_everything": "global_seed",
        "Supervised": "supervised_module", "supervised": "supervised_module",
    },
    ("callbacks", "cli", "data", "errors", "loggers", "profilers", "tuner", "utilities"),
)  # fmt: skip
answer_imports()
tell_lightning_utilities()
