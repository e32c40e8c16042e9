"""NVIDIA GPUs: which of them are free, and how busy they are."""

from __future__ import annotations

import torch

from lightkit.devices.accelerators import CUDAAccelerator
from lightkit.errors import ConfigError

__all__ = ["CUDAAccelerator", "find_usable_cuda_devices", "get_nvidia_gpu_stats"]


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """Indices of GPUs on which a tensor can be made, at most so many; -1: all of them.

    Raises ConfigError where there are fewer than asked for.
    """
    if num_devices == 0:
        return []
    count = torch.cuda.device_count()
    if num_devices > count:
        raise ConfigError(f"find_usable_cuda_devices({num_devices}): this machine has {count} GPUs")
    usable = []
    for index in range(count):
        try:
            torch.tensor(0, device=torch.device("cuda", index))
        except RuntimeError:  # another process has it for itself
            continue
        usable.append(index)
        if len(usable) == num_devices:
            break
    if len(usable) < num_devices:
        raise ConfigError(f"find_usable_cuda_devices({num_devices}): {len(usable)} of {count} GPUs are free: {usable}")
    return usable


def get_nvidia_gpu_stats(device: torch.device | str | int) -> dict[str, float]:
    """What torch says of a GPU: percent of its time and memory in use, degrees Celsius, watts, memory of tensors."""
    free, total = torch.cuda.mem_get_info(device)
    return {
        "utilization.gpu (%)": float(torch.cuda.utilization(device)),
        "memory.used (MB)": (total - free) / 2**20, "memory.free (MB)": free / 2**20,
        "temperature.gpu (°C)": float(torch.cuda.temperature(device)),
        "power.draw (W)": torch.cuda.power_draw(device) / 1000,
    }  # fmt: skip
