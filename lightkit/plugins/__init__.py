"""Objects for `Trainer(plugins=[...])`: precisions, and formats of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.checkpoint.io_plugins import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO
    from lightkit.devices.precision import Precision
    from lightkit.plugins.precision.amp import MixedPrecision
    from lightkit.plugins.precision.double import DoublePrecision
    from lightkit.plugins.precision.half import HalfPrecision

__all__ = [
    "AsyncCheckpointIO", "CheckpointIO", "DoublePrecision", "HalfPrecision", "MixedPrecision", "Precision",
    "TorchCheckpointIO",
]  # fmt: skip

attach(
    __name__,
    {
        **dict.fromkeys(("AsyncCheckpointIO", "CheckpointIO", "TorchCheckpointIO"), "lightkit.checkpoint.io_plugins"),
        "DoublePrecision": "precision.double", "HalfPrecision": "precision.half", "MixedPrecision": "precision.amp",
        "Precision": "lightkit.devices.precision",
    },
    ("io", "precision"),
)  # fmt: skip
