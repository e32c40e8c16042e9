"""Worker processes end with the run, also where it failed and its traceback still holds what they served."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

import lightkit as lk
from lightkit.data.order import Source, make_source


@pytest.fixture(autouse=True)
def no_workers_before() -> None:
    gc.collect()
    assert multiprocessing.active_children() == []


class Broken(Exception):
    pass


class Rows(Dataset[Tensor]):
    """Twelve rows of which one cannot be read."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        if index == self.broken:
            raise Broken
        return torch.ones(1)


class Stream(IterableDataset[Tensor]):
    """As many rows, each worker's own."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(12):
            if index == self.broken:
                raise Broken
            yield torch.ones(1)


class Module(lk.LightModule):
    def __init__(self, raises_in: str = "") -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.raises_in, self.has_workers = raises_in, True

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.check("training_step", batch_idx)
        return self.layer(batch).sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.check("on_train_batch_end", batch_idx)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.check("validation_step", batch_idx)

    def check(self, place: str, batch_idx: int) -> None:
        if self.raises_in == place and batch_idx == 1:
            assert bool(multiprocessing.active_children()) == self.has_workers
            raise Broken

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Wrapped:
    """A user's iterable around a loader with workers."""

    def __init__(self, loader: DataLoader[Tensor]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.loader


def loader_of(data: Dataset[Tensor], is_persistent: bool) -> DataLoader[Tensor]:
    return DataLoader(data, batch_size=2, num_workers=2, persistent_workers=is_persistent)


def fit(module: Module, loader: Any, val: Any, root: Path, **options: Any) -> None:
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, **options}
    trainer = lk.Trainer(accelerator="cpu", default_root_dir=root, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         **options)  # fmt: skip
    trainer.fit(module, loader, val)


@pytest.mark.parametrize("is_persistent", [False, True])
@pytest.mark.parametrize("kind", [Rows, Stream])
@pytest.mark.parametrize("place", ["training_step", "on_train_batch_end", "validation_step", "the data set"])
def test_a_fit_that_raises_leaves_no_worker(tmp_path: Path, place: str, kind: Any, is_persistent: bool) -> None:
    loader = loader_of(kind(5 if place == "the data set" else -1), is_persistent)
    val = loader_of(kind(), is_persistent)
    with pytest.raises(Broken) as caught:
        fit(Module(place), loader, val, tmp_path, val_check_interval=2)
    assert multiprocessing.active_children() == []
    assert caught.tb is not None  # which holds the frames, and they the iterators


def test_a_validation_that_raises_between_two_epochs_leaves_no_worker(tmp_path: Path) -> None:
    # the next epoch's workers are at work already: it is opened ahead
    loader, val = loader_of(Rows(), True), loader_of(Rows(), True)
    with pytest.raises(Broken) as caught:
        fit(Module("validation_step"), loader, val, tmp_path)
    assert multiprocessing.active_children() == []
    assert caught.tb is not None


class Pids(Dataset[Tensor]):
    """Twelve times the process that reads."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(os.getpid())])


class PidStream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(os.getpid())]) for _ in range(6))


class SeesPids(Module):
    """Writes down who fetched its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: dict[str, list[set[float]]] = {"training": [], "validation": []}

    def on_train_epoch_start(self) -> None:
        self.pids["training"].append(set())

    def on_validation_epoch_start(self) -> None:
        self.pids["validation"].append(set())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.pids["training"][-1].update(batch.flatten().tolist())
        return super().training_step(batch, batch_idx) * 0.0

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.pids["validation"][-1].update(batch.flatten().tolist())


STAYING: dict[str, Callable[..., DataLoader[Tensor]]] = {
    "shuffled": lambda **w: DataLoader(Pids(), 2, shuffle=True, **w),  # the next epoch is opened ahead
    "batch sampler": lambda **w: DataLoader(Pids(), batch_sampler=BatchSampler(range(12), 2, False), **w),
    "no batches": lambda **w: DataLoader(Pids(), batch_size=None, **w),
    "iterable": lambda **w: DataLoader(PidStream(), 2, **w),
    "its own iterator": lambda **w: OwnIterator(Pids(), 2, **w),
}


@pytest.mark.parametrize("kind", STAYING)
def test_workers_that_stay_are_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    started: list[int] = []
    start = multiprocessing.Process.start
    monkeypatch.setattr(
        multiprocessing.Process,
        "start",
        lambda process: (started.append(1), start(process)),  # type: ignore[func-returns-value]
    )
    module, loaders = SeesPids(), [STAYING[kind](num_workers=2, persistent_workers=True) for _ in range(2)]
    fit(module, *loaders, tmp_path, max_epochs=6, num_sanity_val_steps=1)
    for loader in loaders:
        loader._iterator = None  # the user's own end now
    assert len(started) == 4, "two of the training, two of the validation"
    training, validation = module.pids["training"], module.pids["validation"][1:]
    assert len(training) == len(validation) == 6
    assert [len(pids) for pids in training + validation] == [2] * 12
    assert len(set.union(*training)) == len(set.union(*validation)) == 2
    assert os.getpid() not in set.union(*training, *validation)


def test_the_loader_of_an_iterable_data_set_is_not_changed(tmp_path: Path) -> None:
    loader = loader_of(Stream(), True)
    before = {**vars(loader)}
    fit(Module(), loader, None, tmp_path)
    assert vars(loader) == before
    assert multiprocessing.active_children() == []


def test_a_users_own_iterable_ends_its_workers_too(tmp_path: Path) -> None:
    with pytest.raises(Broken) as caught:
        fit(Module("training_step"), Wrapped(loader_of(Rows(), False)), None, tmp_path)
    assert multiprocessing.active_children() == []
    assert caught.tb is not None


@pytest.mark.parametrize("place", ["", "training_step"])
def test_a_generator_given_as_the_data_goes_on_after_the_fit(tmp_path: Path, place: str) -> None:
    stream = (torch.ones(1, 1) for _ in range(8))
    module = Module(place)
    module.has_workers = False
    with pytest.raises(Broken) if place else nullcontext():
        fit(module, stream, None, tmp_path, limit_train_batches=2, max_epochs=1)
    assert len(list(stream)) >= 5


@pytest.mark.parametrize("is_persistent", [False, True])
def test_a_fit_that_stops_inside_an_epoch_leaves_no_worker(tmp_path: Path, is_persistent: bool) -> None:
    fit(Module(), loader_of(Rows(), is_persistent), loader_of(Rows(), is_persistent), tmp_path, max_steps=2)
    assert multiprocessing.active_children() == []


class OwnIterator(DataLoader[Tensor]):
    """A user's loader that makes its iterator in a way of its own: it is read as it is."""

    def _get_iterator(self) -> Any:
        return super()._get_iterator()


def test_a_users_workers_outlast_a_run_that_succeeds_and_end_with_one_that_fails(tmp_path: Path) -> None:
    loader = OwnIterator(Stream(), batch_size=2, num_workers=2, persistent_workers=True)
    for _ in range(2):  # the second time with a loader whose workers were ended
        fit(Module(), loader, None, tmp_path)
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        assert len(list(loader)) == 12
        assert multiprocessing.active_children() == workers
        with pytest.raises(Broken):
            fit(Module("training_step"), loader, None, tmp_path)
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kind", [Rows, Stream])
def test_a_source_can_be_released_twice_and_opened_again(kind: Any) -> None:
    source: Source = make_source(loader_of(kind(), True), is_keyed=False)
    for _ in range(2):
        next(held := source.open())
        assert len(multiprocessing.active_children()) == 2
        source.release(has_failed=True)
        source.release(has_failed=True)
        assert multiprocessing.active_children() == []
        del held
