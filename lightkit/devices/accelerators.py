"""The kinds of device a run can use, and the choice that `Trainer(accelerator=..., devices=...)` asks for."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Accelerator:
    """One kind of device. What stands here is true of the processor: always there, one however many cores it has."""

    name = "cpu"

    @classmethod
    def is_available(cls) -> bool:
        """Say whether this machine has such a device and this torch can use it."""
        return True

    @classmethod
    def device_count(cls) -> int:
        """Return how many such devices a run can choose from."""
        return int(cls.is_available())

    def device(self, index: int) -> torch.device:
        """Return torch's name for the device with this index, from 0."""
        return torch.device(self.name) if self.name == "cpu" else torch.device(self.name, index)

    @classmethod
    def auto_device_count(cls) -> int:
        """The same, under Lightning's name."""
        return cls.device_count()

    @classmethod
    def why_not(cls) -> str:
        """Say why no such device can be used."""
        return f"no {cls.name} device was found"


class CPUAccelerator(Accelerator):
    """The processor."""


class CUDAAccelerator(Accelerator):
    """An NVIDIA GPU, or an AMD one with a ROCm build of torch."""

    name = "cuda"

    @classmethod
    def is_available(cls) -> bool:
        return torch.cuda.is_available()

    @classmethod
    def device_count(cls) -> int:
        return torch.cuda.device_count() if cls.is_available() else 0

    @classmethod
    def why_not(cls) -> str:
        if not torch.backends.cuda.is_built():
            return f"this torch ({torch.__version__}) was built without CUDA"
        return "torch finds no CUDA GPU (torch.cuda.is_available() is False)"


class MPSAccelerator(Accelerator):
    """The GPU of an Apple silicon Mac."""

    name = "mps"

    @classmethod
    def is_available(cls) -> bool:
        return torch.backends.mps.is_available()

    @classmethod
    def why_not(cls) -> str:
        return "torch finds no Apple GPU (torch.backends.mps.is_available() is False)"


CPU, CUDA, MPS = CPUAccelerator(), CUDAAccelerator(), MPSAccelerator()

Devices = int | str | Sequence[int]


def choose(accelerator: str | Accelerator, devices: Devices) -> tuple[Accelerator, list[torch.device]]:
    """Return the kind of device and the devices that these two arguments of the Trainer ask for.

    `accelerator`: an object, or a word: "auto" takes a GPU where there is one, "gpu" is CUDA or else MPS. `devices`:
    "auto" is one device, an integer (or "2") a count, -1 all, a list (or "0,") indices. As Lightning's, for one device.
    Raises ConfigError where the machine has no such device, or the arguments make no sense.
    """
    if accelerator == "cpu" and devices == "auto":
        return CPU, [CPU.device(0)]
    from lightkit.devices.choice import choose_indices, choose_kind

    kind = choose_kind(accelerator)
    return kind, [kind.device(index) for index in choose_indices(kind, devices)]
