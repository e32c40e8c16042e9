"""CheckpointIO, under the name that Lightning has for its file."""

from lightkit.checkpoint.io_plugins import CheckpointIO

__all__ = ["CheckpointIO"]
