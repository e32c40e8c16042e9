"""Loaders over tensors in memory: rows are read at once, in the order and with the draws of PyTorch's loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import lightkit as lk
from lightkit.data import TensorLoader
from lightkit.data.order import IndexedSource
from lightkit.errors import ConfigError

X = torch.arange(46.0).view(23, 2)
Y = torch.arange(23)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


OPTIONS: list[dict[str, Any]] = [
    {"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"batch_size": 23}, {"batch_size": 40},
    {"batch_size": 4, "shuffle": True}, {"batch_size": 4, "shuffle": True, "drop_last": True},
]  # fmt: skip


def draws_and_batches(loader: Any, epochs: int = 3) -> list[Any]:
    """Every batch of some epochs, with a number of the default generator after each."""
    return [(x.tolist(), y.tolist(), torch.rand(1).item()) for _ in range(epochs) for x, y in loader]


@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_rows_come_in_the_order_and_with_the_draws_of_a_dataloader(options: Any, own_generator: bool) -> None:
    def generator() -> dict[str, Any]:
        return {"generator": seeded()} if own_generator else {}

    torch.manual_seed(3)
    plain = draws_and_batches(DataLoader(TensorDataset(X, Y), **options, **generator()))
    loader = DataLoader(TensorDataset(X, Y), **options, **generator())
    source = IndexedSource(loader)
    assert source.rows is not None, "this loader is read by rows"
    torch.manual_seed(3)
    assert [found for _ in range(3) for found in draws_and_batches(source.open(), 1)] == plain
    torch.manual_seed(3)
    assert draws_and_batches(TensorLoader(X, Y, **options, **generator())) == plain
    if own_generator:
        torch.manual_seed(0)
        used = loader.generator
        assert used is not None and used.initial_seed() == 5
        again = seeded()
        for _ in DataLoader(TensorDataset(X, Y), **options, generator=again), *[None] * 2:
            draws_and_batches(DataLoader(TensorDataset(X, Y), **options, generator=again), 1)
        assert torch.equal(used.get_state(), again.get_state()), "as many draws, the one after the last batch too"


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), 4, sampler=RandomSampler(TensorDataset(X, Y), replacement=True)),
        DataLoader(TensorDataset(X, Y), 4, sampler=RandomSampler(TensorDataset(X, Y), num_samples=30)),
        DataLoader(TensorDataset(X, Y), 4, sampler=RandomSampler(range(9))),
        DataLoader(TensorDataset(X, Y), batch_size=None),
        DataLoader(TensorDataset(X, Y), batch_sampler=type("Own", (BatchSampler,), {})(range(23), 4, False)),
    ],
)
def test_other_samplers_are_asked_for_their_indices(loader: Any) -> None:
    source = IndexedSource(loader)
    assert source.rows is None
    torch.manual_seed(1)
    plain = [[part.tolist() for part in batch] for batch in loader]
    torch.manual_seed(1)
    assert [[part.tolist() for part in batch] for batch in source.open()] == plain


def test_fewer_rows_than_a_batch_are_no_batch_where_the_last_is_dropped() -> None:
    for shuffle in (False, True):
        assert list(TensorLoader(X[:3], batch_size=4, shuffle=shuffle, drop_last=True)) == []


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_that_grow_and_data_that_is_replaced_are_those_of_a_dataloader(shuffle: bool) -> None:
    def run(open_epoch: Any, loader: Any) -> list[Any]:
        seen = []
        for epoch in range(4):
            if epoch == 1:
                loader.batch_sampler.batch_size = 9
            for number, (x, y) in enumerate(open_epoch()):
                seen.append((x.tolist(), y.tolist()))
                if epoch > 1 and number == 0:
                    loader.dataset.tensors = (X + epoch, Y if epoch == 2 else Y[:, None].expand(23, 2))
        return seen

    torch.manual_seed(3)
    loader = DataLoader(TensorDataset(X, Y), 4, shuffle=shuffle)
    plain = run(lambda: iter(loader), loader)
    torch.manual_seed(3)
    source = IndexedSource(DataLoader(TensorDataset(X, Y), 4, shuffle=shuffle))
    assert run(source.open, source.loader) == plain


def test_batches_are_copies_in_either_order() -> None:
    for shuffle in (False, True):
        loader = TensorLoader(X, Y, batch_size=4, shuffle=shuffle)
        for x, y in loader:
            x.zero_()
            y.zero_()
        assert torch.equal(loader.dataset.tensors[0], torch.arange(46.0).view(23, 2)), "the data is as it was"


class Sums(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self.layer(nn.functional.dropout(batch[0], 0.5)).squeeze(1) - batch[1]).pow(2).mean() * 1e-3

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Stop(lk.Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == 8:
            trainer.save_checkpoint("stop.ckpt")
            raise KeyboardInterrupt


def test_a_run_over_a_tensor_loader_is_taken_up_again_to_the_bit(scratch_directory: Path) -> None:
    def fit(callbacks: list[Any], **more: Any) -> list[torch.Tensor]:
        lk.seed_everything(1)
        model = Sums()
        trainer = lk.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=callbacks,
        )  # fmt: skip
        trainer.fit(model, TensorLoader(X, Y, batch_size=4, shuffle=True), **more)
        return list(model.state_dict().values())

    whole = fit([])
    with pytest.raises(KeyboardInterrupt):
        fit([Stop()])
    torch.manual_seed(99)
    for a, b in zip(whole, fit([], ckpt_path="stop.ckpt"), strict=True):
        assert torch.equal(a, b)


def test_numpy_arrays_are_taken_and_one_tensor_is_a_list_of_one() -> None:
    batches = list(TensorLoader(np.arange(6.0).reshape(3, 2), batch_size=2))
    assert [[part.tolist() for part in batch] for batch in batches] == [[[[0.0, 1.0], [2.0, 3.0]]], [[[4.0, 5.0]]]]
    assert len(TensorLoader(X, Y, batch_size=4)) == 6


@pytest.mark.parametrize(
    ("tensors", "counts"),
    [((), "none"), ((X, Y[:5]), "[23, 5]"), ((torch.tensor(1.0),), "[None]")],
)
def test_tensors_of_different_lengths_are_refused(tensors: Any, counts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TensorLoader(*tensors)
    assert str(caught.value) == (
        f"TensorLoader: expected tensors with the same number of samples, got {counts}; dimension 0 counts the samples"
    )


@pytest.mark.gpu
def test_batches_are_cut_on_the_device_in_the_same_order() -> None:
    torch.manual_seed(2)
    here = draws_and_batches(TensorLoader(X, Y, batch_size=4, shuffle=True))
    torch.manual_seed(2)
    there = TensorLoader(X, Y, batch_size=4, shuffle=True, device="cuda")
    assert draws_and_batches(there) == here
    assert next(iter(there))[0].device.type == "cuda"
