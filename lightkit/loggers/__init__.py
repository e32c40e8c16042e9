"""Loggers: one file each on top of `base.py`, imported when first asked for; tensorboard when it first writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.loggers.base import Logger
    from lightkit.loggers.csv import CSVLogger
    from lightkit.loggers.directory import DirectoryLogger
    from lightkit.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "DirectoryLogger", "Logger", "TensorBoardLogger"]

attach(
    __name__,
    {"CSVLogger": "csv", "DirectoryLogger": "directory", "Logger": "base", "TensorBoardLogger": "tensorboard"},
)
