"""The order of a plain loader over tensors in memory, as rows to read at once instead of lists of Python numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

Rows = Tensor | slice  # of a batch: int64 (batch,), or neighbours


def row_order(batches: Any, tensors: tuple[Tensor, ...]) -> Callable[[], Iterator[Rows]] | None:
    """What gives an epoch's batches, drawn as PyTorch draws them; None where a sampler is not torch's own.

    batches: the loader's batch sampler. tensors: what is read, `(rows, ...)` each.
    """
    if type(batches) is not BatchSampler:
        return None
    sampler, size, count = batches.sampler, batches.batch_size, len(tensors[0])
    end = count // size * size if batches.drop_last else count
    if type(sampler) is SequentialSampler and len(sampler) == count:
        return lambda: (slice(start, min(start + size, end)) for start in range(0, end, size))
    if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source):
        if len(sampler.data_source) != count:
            return None
        devices = {tensor.device for tensor in tensors}
        device = devices.pop() if len(devices) == 1 else torch.device("cpu")
        return lambda: _shuffled(sampler, count, end, size, device)
    return None


def _shuffled(sampler: RandomSampler, count: int, end: int, size: int, device: torch.device) -> Iterator[Rows]:
    generator = sampler.generator
    if generator is None:  # as RandomSampler: a generator for this epoch, seeded by the default one
        generator = torch.Generator()
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
    order = torch.randperm(count, generator=generator)[:end].to(device, non_blocking=True)
    yield from order.split(size) if end else ()  # no rows split into one batch of none
    if sampler.generator is not None:
        torch.randperm(count, generator=generator)  # RandomSampler draws once more when it is asked for more


def read_rows(tensors: tuple[Tensor, ...], rows: Rows) -> list[Tensor]:
    """The batch: new tensors, so that changing it in place leaves the data set as it is."""
    if type(rows) is slice:
        return [tensor[rows].clone() for tensor in tensors]
    return [tensor[rows] for tensor in tensors]
