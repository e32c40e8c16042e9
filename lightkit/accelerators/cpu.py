"""The processor, and how busy it is."""

from __future__ import annotations

from lightkit.devices.accelerators import CPUAccelerator
from lightkit.errors import require

__all__ = ["CPUAccelerator", "get_cpu_stats"]


def get_cpu_stats() -> dict[str, float]:
    """Memory, processor and swap in use, in percent; raises MissingExtraError where psutil is not installed."""
    psutil = require("psutil", "monitor", needed_by="get_cpu_stats")
    return {
        "cpu_vm_percent": psutil.virtual_memory().percent, "cpu_percent": psutil.cpu_percent(),
        "cpu_swap_percent": psutil.swap_memory().percent,
    }  # fmt: skip
