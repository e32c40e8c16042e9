"""The GPU of an Apple silicon Mac, and its memory in use."""

from __future__ import annotations

import torch

from lightkit.devices.accelerators import MPSAccelerator

__all__ = ["MPSAccelerator", "get_device_stats"]


def get_device_stats() -> dict[str, float]:
    """Bytes of memory that tensors, and the driver in all, hold."""
    return {
        "mps_current_allocated_bytes": float(torch.mps.current_allocated_memory()),
        "mps_driver_allocated_bytes": float(torch.mps.driver_allocated_memory()),
    }
