"""Loggers: one file each on top of `base.py`, imported when first asked for; tensorboard when it first writes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightkit.loggers.base import Logger
    from lightkit.loggers.csv import CSVLogger
    from lightkit.loggers.directory import DirectoryLogger
    from lightkit.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "DirectoryLogger", "Logger", "TensorBoardLogger"]

_FILES = {"CSVLogger": "csv", "DirectoryLogger": "directory", "Logger": "base", "TensorBoardLogger": "tensorboard"}

if not TYPE_CHECKING:  # a checker would take every name for one that is there

    def __getattr__(name: str) -> type:
        if name not in _FILES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
