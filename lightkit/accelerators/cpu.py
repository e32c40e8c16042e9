"""The processor, and how busy it is."""

from __future__ import annotations

from lightkit.callbacks.device_stats_monitor import cpu_stats as get_cpu_stats
from lightkit.devices.accelerators import CPUAccelerator

__all__ = ["CPUAccelerator", "get_cpu_stats"]
