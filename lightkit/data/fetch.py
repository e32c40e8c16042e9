"""Indices to batches, here or in a worker process (`worker_side.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from lightkit.data.rows import read_rows
from lightkit.errors import DataError


class Fetch:
    """Indices -> batch, as the DataLoader's own fetcher does it; can be sent to a worker process."""

    def __init__(self, dataset: Dataset[object], collate: Callable[[Any], object], is_batched: bool):
        self.dataset, self.collate, self.is_batched = dataset, collate, is_batched
        self.getitems: Callable[[Any], object] | None = getattr(dataset, "__getitems__", None) if is_batched else None
        self.table: TensorDataset | None = None
        self.tensors: tuple[Tensor, ...] | None = None
        self.look()

    def look(self) -> None:
        """See whether the data set can be read by rows; it may have been given other tensors."""
        data, self.table, self.tensors = self.dataset, None, None
        if type(data) is TensorDataset and self.is_batched and self.collate is default_collate:
            if all(_is_plain(tensor) for tensor in data.tensors):
                self.table, self.tensors = data, data.tensors

    def __call__(self, indices: Any) -> object:
        table = self.table
        if table is not None and table.tensors is not self.tensors:
            self.look()  # other tensors since the epoch began
        if self.tensors is not None:  # one vectorised read: the same numbers that stacking single rows gives
            if type(indices) is list:
                indices = torch.tensor(indices)
            if type(indices) is Tensor or type(indices) is slice:
                return read_rows(self.tensors, indices)
        if type(indices) is slice:  # an order by rows, of data that can be read by rows no longer
            indices = list(range(indices.start, indices.stop))
        try:
            if not self.is_batched:
                return self.collate(self.dataset[indices])
            if self.getitems is not None:
                return self.collate(self.getitems(indices))
            dataset = self.dataset
            return self.collate([dataset[i] for i in indices])
        except StopIteration as error:  # who asks for the next batch would take it for the end of the epoch
            raise DataError(
                f"{type(self.dataset).__name__} raised StopIteration for the samples {in_short(indices)}, which would "
                "end the epoch here; check its length, and what it calls `next` on"
            ) from error


def in_short(indices: object, most: int = 8) -> str:
    """The samples of a batch, the first of them where there are many."""
    if isinstance(indices, (list, tuple)) and len(indices) > most:
        return f"[{', '.join(map(repr, indices[:most]))}, ...] ({len(indices)})"
    return repr(indices)


def _is_plain(tensor: Tensor) -> bool:
    is_ordinary = type(tensor) is Tensor and tensor.layout is torch.strided
    return is_ordinary and tensor.is_contiguous() and not tensor.requires_grad
