"""The base of callbacks, under the name that Lightning has for its file."""

from lightkit.callbacks.base import Callback

__all__ = ["Callback"]
