"""AsyncCheckpointIO, under the name that Lightning has for its file."""

from lightkit.checkpoint.io_plugins import AsyncCheckpointIO

__all__ = ["AsyncCheckpointIO"]
