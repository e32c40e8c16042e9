"""Sizes of batches and loaders."""

from __future__ import annotations

from typing import Any

from lightkit.data.lengths import length_of
from lightkit.devices.batch_size import BatchSizes
from lightkit.devices.strategies import Strategy
from lightkit.utilities.rank_zero import rank_zero_warn


def extract_batch_size(batch: Any) -> int:
    """The samples in a batch: the size of dimension 0 of its first tensor, or what it says of itself.

    Raises ConfigError where the batch holds no tensor; warns where its tensors disagree.
    """
    return BatchSizes()(batch)


def has_len_all_ranks(
    dataloader: object, strategy: Strategy, allow_zero_length_dataloader_with_multiple_devices: bool = False
) -> bool:
    """Whether the loader can say how many batches it has; warns of one that has none."""
    length = length_of(dataloader)
    if length == 0:
        rank_zero_warn(f"{type(dataloader).__name__} has no batches")
    return length != float("inf")
