"""Indices to batches, here or in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate, get_worker_info

from lightkit.data.rows import read_rows
from lightkit.data.workers import handled, outlive
from lightkit.errors import DataError
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


class KeyedDataset(Dataset[object]):
    """What worker processes read: an item is a whole batch, and its random state depends on nothing but its key.

    name: of the loader. What goes wrong in a worker is given back instead of raised, see `worker_errors`.
    """

    def __init__(self, fetch: Fetch, name: str):
        self.fetch, self.name = fetch, name
        self.seed: int | None = None
        self.failure: object = None  # of worker_init_fn

    @property
    def dataset(self) -> Dataset[object]:
        """The user's."""
        return self.fetch.dataset

    def fail(self, failure: object) -> None:
        """Every batch is this from now on."""
        self.failure = failure

    def __getitem__(self, key: tuple[int | None, int, object]) -> object:
        seed, index, indices = key
        if self.failure is not None:
            return self.failure
        try:
            if seed is not None:
                if seed != self.seed:
                    self.seed = seed
                    _seed_info(seed)
                key_rng(mix(seed, index))
            return self.fetch(indices)
        except Exception as error:
            if get_worker_info() is None:
                raise  # fetched in this process, see Source.has_inner
            from lightkit.data.worker_errors import Failure

            kind = type(self.fetch.dataset).__name__
            return Failure(error, f"{self.name}: {kind}, batch {index} of the epoch, samples {in_short(indices)}")


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
        ours = info.dataset
        vars(info)["dataset"] = ours.dataset  # WorkerInfo refuses plain assignment
        if self.init is None:
            return
        try:
            self.init(worker_id)
        except Exception as error:
            from lightkit.data.worker_errors import Failure

            ours.fail(Failure(error, f"{ours.name}: worker_init_fn"))


def options_of_workers(loader: DataLoader[Any]) -> dict[str, Any]:
    """The arguments for a DataLoader of ours whose worker processes are as the user's."""
    found: dict[str, Any] = {"num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
    if loader.num_workers > 0:
        names = "prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context", "in_order"
        found.update((name, getattr(loader, name)) for name in names if hasattr(loader, name))
        found["worker_init_fn"] = WorkerInit(loader.worker_init_fn)
    return found
