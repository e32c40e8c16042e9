"""Images and volumes as channels_last, which convolutions on a GPU are fastest with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightkit.devices.transfer import map_tensors

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def module_to_channels_last(module: nn.Module) -> None:
    """Weights of convolutions in channels_last, in place: the parameters stay the same objects."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = _tensor_to_channels_last(tensor.data)


def batch_to_channels_last(batch: Any) -> Any:
    return map_tensors(batch, _tensor_to_channels_last)


def _tensor_to_channels_last(tensor: Tensor) -> Tensor:
    memory_format = _FORMATS.get(tensor.dim())
    if memory_format is None or not tensor.is_floating_point():
        return tensor
    return tensor.contiguous(memory_format=memory_format)
