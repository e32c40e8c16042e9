"""Loggers: one file each on top of `base.py`; tensorboard is imported only when it is used."""

from lightkit.loggers.base import Logger
from lightkit.loggers.csv import CSVLogger
from lightkit.loggers.directory import DirectoryLogger
from lightkit.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "DirectoryLogger", "Logger", "TensorBoardLogger"]
