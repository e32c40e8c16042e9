"""What changes with the epochs: samplers and data sets are told which one it is, data sets grow; None is left out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset, Sampler

import lightkit as lk

EPOCHS = 3


class Numbers(Dataset[Tensor]):
    def __init__(self, size: int = 8) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index)])


class Epochs(Sampler[Any]):
    """Begins at the epoch's number, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter([(i + self.told[-1]) % 8 for i in range(8)])

    def __len__(self) -> int:
        return 8


class Batched(Epochs):
    def __iter__(self) -> Iterator[Any]:
        return iter(BatchSampler(list(super().__iter__()), 2, False))

    def __len__(self) -> int:
        return 4


class Inside(BatchSampler):
    """A batch sampler without a word for epochs, around a sampler that has one."""


class EpochStream(IterableDataset[Tensor]):
    """Numbers of the epoch that it was told last; and how often it was told."""

    def __init__(self) -> None:
        self.epoch, self.count = -1, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.count = epoch, self.count + 1

    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(self.epoch), float(self.count)]) for _ in range(8))


class Watching(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[float]] = []
        self.validated: list[list[float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.flatten().tolist())
        return self.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated.append(batch.flatten().tolist())
        self.log("read", 1.0, batch_size=1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(train: Any, val: Any = None, module: Watching | None = None, **options: Any) -> Watching:
    module = module or Watching()
    ckpt_path = options.pop("ckpt_path", None)
    trainer = lk.Trainer(**{
        "max_epochs": EPOCHS, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, **options,
    })  # fmt: skip
    trainer.fit(module, train, val, ckpt_path=ckpt_path)
    return module


KINDS: dict[str, tuple[Callable[[], Epochs], Callable[..., Any]]] = {
    "sampler": (Epochs, lambda s, **w: DataLoader(Numbers(), 2, sampler=s, **w)),
    "batch sampler": (Batched, lambda s, **w: DataLoader(Numbers(), batch_sampler=s, **w)),
    "inside a batch sampler": (Epochs, lambda s, **w: DataLoader(Numbers(), batch_sampler=Inside(s, 2, False), **w)),
}
WORKERS = [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_samplers_are_told_each_epoch_once(kind: str, workers: dict[str, Any]) -> None:
    make, loader_of = KINDS[kind]
    train, val = make(), make()
    module = fit(loader_of(train, **workers), loader_of(val, **workers), num_sanity_val_steps=1, val_check_interval=2)
    assert train.told == [0, 1, 2]
    assert val.told == [0, 1, 2], "though it is read twice an epoch, and for the sanity check"
    assert [batch[0] for batch in module.seen[::4]] == [0.0, 1.0, 2.0]
    assert [batch[0] for batch in module.validated[1::4]] == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("workers", WORKERS)
def test_torchs_distributed_sampler_shuffles_training_and_validation_anew(workers: dict[str, Any]) -> None:
    calls: list[tuple[str, int]] = []

    class Counting(DistributedSampler[Tensor]):
        def set_epoch(self, epoch: int) -> None:
            calls.append((self.name, epoch))
            super().set_epoch(epoch)

    def make(name: str) -> DataLoader[Tensor]:
        sampler = Counting(Numbers(), num_replicas=1, rank=0)
        sampler.name = name
        return DataLoader(Numbers(), 8, sampler=sampler, **workers)

    module = fit(make("train"), make("val"), num_sanity_val_steps=0)
    assert sorted(calls) == [(name, epoch) for name in ("train", "val") for epoch in range(EPOCHS)]
    plain, sampler = [], DistributedSampler(Numbers(), num_replicas=1, rank=0)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        plain.append([float(index) for index in sampler])
    assert module.seen == module.validated == plain


@pytest.mark.parametrize("workers", WORKERS)
def test_an_iterable_data_set_is_told_also_where_its_workers_stay(workers: dict[str, Any]) -> None:
    train, val = EpochStream(), EpochStream()
    module = fit(DataLoader(train, 8, **workers), DataLoader(val, 8, **workers), num_sanity_val_steps=0)
    for found in (module.seen, module.validated):
        assert [batch[0] for batch in found] == [0.0, 1.0, 2.0]
        assert [batch[1] for batch in found] == [1.0, 2.0, 3.0], "once an epoch"
    assert (train.epoch, train.count) == (val.epoch, val.count) == (2, 3)


def test_a_loader_of_another_class_whose_workers_stay_is_said_not_to_tell_them() -> None:
    class OwnIterator(DataLoader[Tensor]):
        def _get_iterator(self) -> Any:
            return super()._get_iterator()

    loader = OwnIterator(EpochStream(), 8, num_workers=1, persistent_workers=True)
    with pytest.warns(UserWarning) as said:
        module = fit(loader)
    loader._iterator = None  # the user's workers end now
    assert [batch[0] for batch in module.seen] == [0.0] * EPOCHS
    assert [str(warning.message) for warning in said] == [
        "train_dataloaders (OwnIterator): workers that stay have copies of EpochStream, which are not told the epoch; "
        "give persistent_workers=False"
    ]


def test_an_evaluation_after_a_fit_is_of_the_fits_epoch() -> None:
    sampler, module = Epochs(), Watching()
    trainer = lk.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, [torch.ones(1)])
    trainer.validate(module, DataLoader(Numbers(), 8, sampler=sampler), verbose=False)
    assert sampler.told == [2]


# ---------------------------------------------------------------- nothing left to train


@pytest.mark.parametrize("stops", [{"max_epochs": 2}, {"max_steps": 6}, {"max_steps": 4}])
@pytest.mark.parametrize("workers", WORKERS)
def test_generators_are_restored_where_nothing_is_left_to_train(
    tmp_path: Path, workers: dict[str, Any], stops: dict[str, int]
) -> None:
    class Ends(lk.Callback):
        """Saves and draws where an uninterrupted run ends."""

        def __init__(self, generator: torch.Generator) -> None:
            self.generator = generator

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")
            self.drawn = [torch.rand(3).tolist(), torch.rand(3, generator=self.generator).tolist()]

    def run(seed: int, **options: Any) -> list[list[float]]:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(5 if seed == 1 else 6)
        ends = Ends(generator)
        loader = DataLoader(Numbers(), 2, shuffle=True, generator=generator, **workers)
        fit(loader, callbacks=[ends], **stops, **options)
        return [*ends.drawn, torch.rand(3).tolist()]

    whole = run(1)
    path = tmp_path / "whole.ckpt"
    (tmp_path / "end.ckpt").rename(path)
    again = run(2, ckpt_path=path)
    assert again == whole
    saved = [torch.load(file, weights_only=True)["rng"]["torch"] for file in (path, tmp_path / "end.ckpt")]
    assert torch.equal(*saved)


class Noisy(Numbers):
    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index), torch.rand(1).item(), random.random(), float(np.random.rand())])


def test_the_same_seed_gives_the_same_numbers_with_any_workers() -> None:
    def run(**workers: Any) -> tuple[Any, Any]:
        lk.seed_everything(3, workers=True, verbose=False)
        module = fit(DataLoader(Noisy(), 3, shuffle=True, **workers), DataLoader(Noisy(), 4, **workers))
        return module.seen, module.validated

    alone = run()
    assert len({number for batch in alone[0] for number in batch}) > 3 * 8 * EPOCHS, "other numbers every time"
    for workers in ({"num_workers": 1}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}):
        assert run(**workers) == alone, workers


# ---------------------------------------------------------------- lengths


class Grows(lk.Callback):
    def __init__(self, *data: Numbers, by: int) -> None:
        self.data, self.by = data, by
        self.counts: list[tuple[Any, Any]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.counts.append((trainer.num_training_batches, trainer.num_val_batches))
        for data in self.data:
            data.size += self.by


@pytest.mark.parametrize("by", [4, -2])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_data_set_that_grows_or_shrinks_is_read_whole(workers: dict[str, Any], by: int) -> None:
    data, val = Numbers(), Numbers()
    grows = Grows(data, val, by=by)
    module = fit(
        DataLoader(data, 2, shuffle=True, **workers), DataLoader(val, 2, **workers), num_sanity_val_steps=0,
        callbacks=[grows],
    )  # fmt: skip
    sizes = [8, 8 + by, 8 + 2 * by]
    for found in (module.seen, module.validated):
        assert [len(batch) for batch in found] == [2] * (sum(sizes) // 2)
        assert sorted(number for batch in found for number in batch) == sorted(n for s in sizes for n in range(s))
    assert grows.counts == [(size // 2, [size // 2]) for size in sizes]


def test_a_share_of_a_loader_that_grows_grows_with_it() -> None:
    data = Numbers()
    module = fit(DataLoader(data, 2), limit_train_batches=0.5, callbacks=[Grows(data, by=8)])
    assert len(module.seen) == 2 + 4 + 6


def test_a_loader_that_is_empty_after_an_epoch_is_said() -> None:
    data = Numbers()
    with pytest.raises(lk.errors.DataError) as caught:
        fit(DataLoader(data, 2), callbacks=[Grows(data, by=-8)])
    assert str(caught.value) == (
        "train_dataloaders has no batches (its data set has 0 samples, batch_size=2, drop_last=False); check the data "
        "set's length, batch_size and drop_last"
    )


# ---------------------------------------------------------------- None as a batch


class Hooks(lk.Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.calls.append(("start", batch_idx))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.calls.append(("end", batch_idx))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_none_as_a_batch_is_left_out_and_said(accumulate: int) -> None:
    # as in Lightning: no step and no on_train_batch_start, but on_train_batch_end
    batches = [torch.tensor([1.0]), None, torch.tensor([2.0]), torch.tensor([3.0]), None]
    hooks, module = Hooks(), Watching()
    with pytest.warns(UserWarning) as said:
        fit(batches, module=module, max_epochs=1, accumulate_grad_batches=accumulate, callbacks=[hooks])
    assert module.seen == [[1.0], [2.0], [3.0]]
    assert [str(warning.message) for warning in said] == [
        "train_dataloaders gave None as a batch: no training step is made of it"
    ] * 2
    assert module.trainer.global_step == (3 if accumulate == 1 else 2), "the window that None leaves open is closed"
    assert hooks.calls == [
        ("start", 0), ("end", 0), ("end", 1), ("start", 2), ("end", 2), ("start", 3), ("end", 3), ("end", 4),
    ]  # fmt: skip
