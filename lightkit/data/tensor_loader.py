"""A loader of tensors in memory, also in a device's, for direct use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from lightkit.data.order import IndexedSource
from lightkit.errors import ConfigError


class TensorLoader(DataLoader[Any]):
    """Batches `[a[rows], b[rows], ...]` of tensors in memory, each read by one vectorised index.

    The same batches, in the same order and drawn from the same generator, as
    `DataLoader(TensorDataset(*tensors), ...)` gives; also outside of a Trainer. (A Trainer reads such a DataLoader in
    this way too.) With `device` the tensors are moved there once, and batches are cut on the device: nothing is
    copied to it during the training.

    Args:
        tensors: `(samples, ...)` each, tensors or numpy arrays.
        batch_size: samples a batch.
        shuffle: another order every epoch.
        drop_last: leave out the last batch where it is smaller.
        generator: draws the order; None: torch's default generator.
        device: where to keep the tensors; None: where they are.

    Raises ConfigError for no tensors, or different numbers of samples.
    """

    def __init__(
        self, *tensors: Any, batch_size: int = 1, shuffle: bool = False, drop_last: bool = False,
        generator: torch.Generator | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        moved = [torch.as_tensor(tensor, device=device).contiguous() for tensor in tensors]
        counts = [len(tensor) if tensor.dim() else None for tensor in moved]
        if not moved or len(set(counts)) != 1 or counts[0] is None:
            raise ConfigError(
                f"TensorLoader: expected tensors with the same number of samples, got {counts or 'none'}; "
                "dimension 0 counts the samples"
            )
        super().__init__(
            TensorDataset(*moved), batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return IndexedSource(self).open(remember=False)
