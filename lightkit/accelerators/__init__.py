"""The kinds of device, under Lightning's names for the package and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.accelerators.cuda import find_usable_cuda_devices
    from lightkit.devices.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, MPSAccelerator

__all__ = ["Accelerator", "CPUAccelerator", "CUDAAccelerator", "MPSAccelerator", "find_usable_cuda_devices"]

attach(
    __name__,
    {
        **dict.fromkeys(__all__[:4], "lightkit.devices.accelerators"), "find_usable_cuda_devices": "cuda",
    },
    ("accelerator", "cpu", "cuda", "mps"),
)  # fmt: skip
