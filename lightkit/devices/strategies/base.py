"""How many processes train, and how they agree. The defaults are those of one process on one device."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Strategy:
    """One process on one device; a strategy of several processes overrides what differs."""

    name = ""
    world_size = 1
    global_rank = 0
    local_rank = 0

    def __init__(self) -> None:
        self.root_device = torch.device("cpu")

    @property
    def is_global_zero(self) -> bool:
        """Say whether this process is the one that writes files and prints."""
        return self.global_rank == 0

    def use(self, device: torch.device) -> None:
        """This process computes on that device."""
        self.root_device = device

    def setup(self, module: nn.Module, device: torch.device) -> None:
        """Move the module to its device, in place, and make that the current one."""
        self.root_device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        module.to(device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return what the loop calls for a training step: the module itself, or what synchronizes it."""
        return module

    def barrier(self, name: str | None = None) -> None:
        """Wait until every process is here."""

    def broadcast(self, obj: T, src: int = 0) -> T:
        """Return the object that process `src` holds."""
        return obj

    def reduce(self, tensor: Tensor, reduce_op: str = "mean") -> Tensor:
        """Return the mean (or "sum") of the tensor over all processes."""
        return tensor

    def all_gather(self, data: T, sync_grads: bool = False) -> T:
        """Return the data of all processes, stacked along a new dimension 0; of one process as it is."""
        return data

    def teardown(self) -> None:
        """Give back what `setup` took."""


class SingleDeviceStrategy(Strategy):
    """One process, one device: nothing to agree on."""

    name = "single_device"
