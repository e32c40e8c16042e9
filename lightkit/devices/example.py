"""A module run on its example, for a look at it: where the example has to be, and how no trace is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def to_device_of(module: nn.Module, example: T) -> T:
    """The example with its tensors on the module's device."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    moved: T = tree_map_only(Tensor, lambda tensor: tensor.to(device), example)
    return moved


@contextmanager
def left_as_found(module: nn.Module) -> Iterator[None]:
    """Inside, evaluation mode and no gradients; afterwards each part's mode and torch's generators are as before."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
