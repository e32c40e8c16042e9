"""What worker processes of a loader run: keys to batches, the user's worker_init_fn; imported where there are any."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from lightkit.data.fetch import Fetch, in_short
from lightkit.data.packing import packed
from lightkit.data.workers import handled, outlive
from lightkit.seeding import key_rng, mix

T = TypeVar("T")


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
            return packed(self.fetch(indices))
        except Exception as error:
            if get_worker_info() is None:
                raise  # fetched in this process, into pinned memory
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


def loader_of_keys(fetch: Fetch, name: str, keys: Iterable[object], loader: DataLoader[Any]) -> DataLoader[Any]:
    """A loader of whole batches by their keys, with workers as the user's. name: of that one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to warn of, the user's own loader has said already
        return DataLoader(
            KeyedDataset(fetch, name), batch_size=None, sampler=keys, collate_fn=_same, generator=torch.Generator(),
            **options_of_workers(loader),
        )  # fmt: skip


def _same(batch: T) -> T:
    return batch
