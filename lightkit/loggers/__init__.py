"""Loggers: one file each on top of `base.py`; tensorboard is imported only when it is used."""

from lightkit.loggers.base import Logger

__all__ = ["Logger"]
