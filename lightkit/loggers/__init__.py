"""Loggers: one file each on top of `base.py`, imported when first asked for; their packages when they first write.

What the names are to a type checker stands in `__init__.pyi`; loggers that only Lightning has: `foreign.py`.
"""

from lightkit.lazy import attach

_FILES = {
    "CSVLogger": "csv", "DirectoryLogger": "directory", "Logger": "base", "MLFlowLogger": "mlflow",
    "TensorBoardLogger": "tensorboard", "WandbLogger": "wandb",
}  # fmt: skip
__all__ = list(_FILES)

attach(__name__, _FILES)
