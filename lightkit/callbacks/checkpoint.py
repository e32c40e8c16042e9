"""The base of callbacks that save, under the name that Lightning has for its file."""

from lightkit.callbacks.base import Checkpoint

__all__ = ["Checkpoint"]
