"""The base of strategies, under the name that Lightning has for its file."""

from lightkit.devices.strategies.base import Strategy

__all__ = ["Strategy"]
