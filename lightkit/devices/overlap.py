"""Batches copied to the GPU beside the step that still runs there.

A loop that calls `next(loader)` right after it has launched a step is ahead of the GPU. On the default stream the copy
would wait behind that step all the same, and the next step behind the copy; on a stream of its own it runs while the
GPU computes. Nothing is fetched earlier than without it: positions, generators and hooks are what they are.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from lightkit.devices.transfer import map_tensors

T = TypeVar("T")


class OverlappedTransfer:
    """`(batch, device) -> batch` as `move_data_to_device`, by way of pinned memory and a side stream."""

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None  # made at the first batch: making it starts CUDA

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "stream": None}  # a copy makes its own

    def __call__(self, batch: T, device: torch.device) -> T:
        """Begin the copies; the current stream waits for them, this process does not."""
        main = torch.cuda.current_stream(device)
        if self.stream is None:
            self.stream = torch.cuda.Stream(device)
        moved: list[Tensor] = []

        def move(tensor: Tensor) -> Tensor:
            if tensor.device == device:
                return tensor
            if tensor.layout is not torch.strided:  # sparse ones are several tensors, and cannot be pinned
                with torch.cuda.stream(main):
                    return tensor.to(device)
            if tensor.device.type == "cpu" and not tensor.is_pinned():
                tensor = tensor.pin_memory()  # from other memory the driver copies in two parts, and waits
            copy = tensor.to(device, non_blocking=True)
            moved.append(copy)
            return copy

        def move_itself(obj: Any) -> object:
            with torch.cuda.stream(main):  # what it holds is not known here, so it cannot be recorded below
                found: object = obj.to(device)
            return obj if found is None else found

        with torch.cuda.stream(self.stream):
            batch = map_tensors(batch, move, move_itself)
        main.wait_stream(self.stream)
        for tensor in moved:
            tensor.record_stream(main)  # its memory is not given to the next copy while the step still reads it
        return batch
