"""TorchCheckpointIO, under the name that Lightning has for its file."""

from lightkit.checkpoint.io_plugins import TorchCheckpointIO

__all__ = ["TorchCheckpointIO"]
