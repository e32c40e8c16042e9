"""Formats of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.checkpoint.io_plugins import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO

__all__ = ["AsyncCheckpointIO", "CheckpointIO", "TorchCheckpointIO"]

attach(
    __name__,
    dict.fromkeys(__all__, "lightkit.checkpoint.io_plugins"),
    ("async_plugin", "checkpoint_plugin", "torch_plugin"),
)  # fmt: skip
