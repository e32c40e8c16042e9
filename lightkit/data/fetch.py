"""Indices to batches, here or in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate, get_worker_info

from lightkit.data.rows import read_rows
from lightkit.data.workers import handled, outlive
from lightkit.seeding import key_rng, mix


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
        if not self.is_batched:
            return self.collate(self.dataset[indices])
        if self.getitems is not None:
            return self.collate(self.getitems(indices))
        dataset = self.dataset
        return self.collate([dataset[i] for i in indices])


def _is_plain(tensor: Tensor) -> bool:
    is_ordinary = type(tensor) is Tensor and tensor.layout is torch.strided
    return is_ordinary and tensor.is_contiguous() and not tensor.requires_grad


class KeyedDataset(Dataset[object]):
    """What worker processes read: an item is a whole batch, and its random state depends on nothing but its key."""

    def __init__(self, fetch: Fetch):
        self.fetch = fetch
        self.seed: int | None = None

    def __getitem__(self, key: tuple[int | None, int, object]) -> object:
        seed, index, indices = key
        if seed is not None:
            if seed != self.seed:
                self.seed = seed
                _seed_info(seed)
            key_rng(mix(seed, index))
        return self.fetch(indices)


def _seed_info(seed: int) -> None:
    """Give `get_worker_info().seed` the value that a worker started in this epoch has, also in one that stays.

    A run that is resumed starts its workers in a later epoch than the run that was interrupted.
    """
    info = get_worker_info()
    if info is not None:
        base = torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(seed))
        vars(info)["seed"] = int(base) + info.id  # WorkerInfo refuses plain assignment


class WorkerInit:
    """The user's worker_init_fn, which sees the user's data set in get_worker_info(); signals pass the worker by."""

    def __init__(self, init: Callable[[int], None] | None):
        self.init, self.outlived = init, handled()

    def __call__(self, worker_id: int) -> None:
        outlive(self.outlived)
        info: Any = get_worker_info()
        vars(info)["dataset"] = info.dataset.fetch.dataset  # WorkerInfo refuses plain assignment
        if self.init is not None:
            self.init(worker_id)
