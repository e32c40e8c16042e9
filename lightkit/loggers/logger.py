"""The base of loggers and what belongs to it, under the name that Lightning has for its file."""

from lightkit.loggers.base import Logger
from lightkit.loggers.dummy import DummyLogger
from lightkit.loggers.merging import merge_dicts

__all__ = ["DummyLogger", "Logger", "merge_dicts"]
