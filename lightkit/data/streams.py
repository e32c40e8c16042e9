"""Iterable data sets in worker processes: read by a loader of ours, whose workers hear of epochs and lose no error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from lightkit.data.order import Source
from lightkit.data.packing import packed
from lightkit.data.worker_errors import Failure
from lightkit.data.worker_side import options_of_workers
from lightkit.data.workers import remember


class Stream(IterableDataset[object]):
    """The user's data set, in a worker: what goes wrong is given as an item, `Joined` makes a batch of it.

    name: of the loader.
    """

    def __init__(self, dataset: IterableDataset[object], name: str):
        self.dataset, self.name = dataset, name
        self.failure: Failure | None = None  # of worker_init_fn
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # in all processes the same number
        self.told = 0  # the epoch that this copy of the data set knows

    def fail(self, failure: Failure) -> None:
        """Every item is this from now on."""
        self.failure = failure

    def tell(self, epoch: int) -> None:
        """Workers that stay tell their copies when the epoch begins; the data set itself knows already."""
        self.told = epoch
        self.epoch.fill_(epoch)

    def __iter__(self) -> Iterator[object]:
        if self.failure is None:
            try:
                if (epoch := int(self.epoch)) != self.told:
                    self.told = epoch
                    dataset: Any = self.dataset
                    dataset.set_epoch(epoch)
                yield from self.dataset
                return
            except Exception as error:
                self.failure = Failure(error, f"{self.name}: {type(self.dataset).__name__}")
        while True:  # a whole batch of it: one that is not full may be left out
            yield self.failure


class Joined:
    """The user's collate_fn, in a worker. is_batched: of lists of items, else of single ones."""

    def __init__(self, collate: Callable[[Any], object], name: str, is_batched: bool):
        self.collate, self.name, self.is_batched = collate, name, is_batched

    def __call__(self, items: Any) -> object:
        for item in items if self.is_batched else (items,):
            if type(item) is Failure:
                return item
        try:
            return packed(self.collate(items))
        except Exception as error:
            return Failure(error, f"{self.name}: collate_fn")


class StreamSource(Source):
    """A DataLoader with workers over an iterable data set; its own iterator and its workers are left alone."""

    tells_copies = True

    def __init__(self, loader: DataLoader[Any], name: str):
        super().__init__(loader, name)
        dataset: Any = loader.dataset
        self.stream = Stream(dataset, name)
        self.inner: DataLoader[Any] | None = None  # made when the first epoch begins

    def set_epoch(self, epoch: int) -> None:
        """As Source.set_epoch; copies of the data set in workers that stay are told, too."""
        super().set_epoch(epoch)
        if callable(getattr(self.loader.dataset, "set_epoch", None)):
            self.stream.tell(epoch)

    def _begin(self) -> Iterator[Any]:
        if self.inner is None:  # not `or`: where the data set has no items its length is 0, so it is false
            self.inner = self._loader_of_items(self.loader)
        batches = iter(self.inner)
        remember(batches)
        return self._follow(batches)

    def _loader_of_items(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        is_batched = loader.batch_size is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to warn of, the user's own loader has said already
            return DataLoader(
                self.stream, batch_size=loader.batch_size, drop_last=loader.drop_last, generator=loader.generator,
                collate_fn=Joined(loader.collate_fn, self.name, is_batched), **options_of_workers(loader),
            )  # fmt: skip

    def release(self, *, has_failed: bool = False) -> None:
        """As Source.release; workers that stay are this source's own."""
        super().release(has_failed=has_failed)
        self.inner = None
