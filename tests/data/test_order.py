"""The order of batches is PyTorch's own for every kind of loader, and is taken up again exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

import lightkit as lk
from lightkit.data.order import make_source

SAMPLES, EPOCHS = 23, 3
Seen = list[tuple[list[int], float]]


class Numbers(Dataset[Any]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


class DrawsInIter(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(SAMPLES).tolist())

    def __len__(self) -> int:
        return SAMPLES


class Batches(Sampler[list[int]]):
    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(20).tolist()
        yield from (order[i : i + 5] for i in range(0, 20, 5))

    def __len__(self) -> int:
        return 4


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        yield from (torch.tensor(i) for i in range(first, 24, step))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _sampled(sampler: Callable[[], Any]) -> Callable[..., Any]:
    return lambda **workers: DataLoader(Numbers(), 4, sampler=sampler(), **workers)


LOADERS: dict[str, Callable[..., Any]] = {
    "shuffle": lambda **w: DataLoader(Numbers(), 4, shuffle=True, **w),
    "shuffle, own generator": lambda **w: DataLoader(Numbers(), 4, shuffle=True, generator=generator(), **w),
    "drop_last": lambda **w: DataLoader(Numbers(), 4, shuffle=True, drop_last=True, **w),
    "no batches": lambda **w: DataLoader(Numbers(), batch_size=None, shuffle=True, **w),
    "weighted": _sampled(lambda: WeightedRandomSampler(torch.linspace(0.1, 1, SAMPLES).tolist(), 30)),
    "replacement": _sampled(lambda: RandomSampler(Numbers(), replacement=True, num_samples=70)),
    "replacement, own generator": _sampled(
        lambda: RandomSampler(Numbers(), replacement=True, num_samples=70, generator=generator())
    ),
    "several permutations": _sampled(lambda: RandomSampler(Numbers(), num_samples=60, generator=generator())),
    "subset": _sampled(lambda: SubsetRandomSampler(range(3, 20))),
    "draws in __iter__": _sampled(DrawsInIter),
    "batch sampler": lambda **w: DataLoader(Numbers(), batch_sampler=Batches(), **w),
    "iterable": lambda **w: DataLoader(Stream(), 4, **w),
}
WORKERS = {
    "0 workers": {"num_workers": 0},
    "2 workers": {"num_workers": 2},
    "2 workers that stay": {"num_workers": 2, "persistent_workers": True},
}


class Watching(lk.LightModule):
    """Writes down its batches, and one number of the global generator a step, as dropout would draw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: Seen = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch.reshape(-1).tolist(), torch.rand(1).item()))
        return (self.weight * batch.float().mean()).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Stop(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(loader: Any, seed: int, callbacks: list[Any], ckpt_path: Path | None = None) -> Seen:
    torch.manual_seed(seed)
    model = Watching()
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    try:
        trainer.fit(model, loader, ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert callbacks
    finally:
        if isinstance(loader, DataLoader):
            loader._iterator = None  # workers that stay end now, not when the garbage collector finds them
    return model.seen


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", LOADERS)
def test_order_is_that_of_a_plain_loop_and_is_taken_up_again(tmp_path: Path, kind: str, workers: str) -> None:
    def make() -> Any:
        return LOADERS[kind](**WORKERS[workers])

    torch.manual_seed(3)
    model, loader, plain = Watching(), make(), []
    assert model.weight.item() == 0.0
    for _ in range(EPOCHS):
        plain += [(batch.reshape(-1).tolist(), torch.rand(1).item()) for batch in loader]
    assert fit(make(), seed=3, callbacks=[]) == plain
    steps = len(plain) // EPOCHS
    for stop in (1, steps, steps + 2) if workers == "0 workers" else (1, steps + 2):
        path = tmp_path / f"{stop}.ckpt"
        before = fit(make(), seed=3, callbacks=[Stop(stop, path)])
        assert len(before) == stop
        assert before + fit(make(), seed=99, callbacks=[], ckpt_path=path) == plain


class Stateful:
    """A loader that keeps its own position, as torchdata's StatefulDataLoader does."""

    def __init__(self) -> None:
        self.position = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, self.position = self.position % 6, self.position % 6
        for i in range(start, 6):
            self.position = i + 1
            yield torch.tensor([i])

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


@pytest.mark.parametrize("make", [Stateful, lambda: [torch.tensor([i]) for i in range(6)]])
def test_other_iterables_are_taken_up_again_too(tmp_path: Path, make: Callable[[], Any]) -> None:
    plain = fit(make(), seed=3, callbacks=[])
    assert [batch for batch, _ in plain] == [[i] for i in range(6)] * EPOCHS
    for stop in (1, 6, 8):
        path = tmp_path / f"{stop}.ckpt"
        before = fit(make(), seed=3, callbacks=[Stop(stop, path)])
        assert before + fit(make(), seed=99, callbacks=[], ckpt_path=path) == plain


def test_worker_init_fn_sees_the_user_s_data_set() -> None:
    def check(worker_id: int) -> None:
        info: Any = get_worker_info()
        assert type(info.dataset) is Numbers and info.id == worker_id

    loader = DataLoader(Numbers(), 4, num_workers=1, worker_init_fn=check)
    assert len(fit(loader, seed=0, callbacks=[])) == EPOCHS * 6


class SeedOfTheWorker(Numbers):
    def __getitem__(self, index: int) -> torch.Tensor:
        info: Any = get_worker_info()
        return torch.tensor([index, info.seed])


def test_the_seed_that_the_data_sees_is_that_of_the_epoch_also_in_workers_that_stay(tmp_path: Path) -> None:
    def make() -> Any:
        return DataLoader(SeedOfTheWorker(), 4, num_workers=2, shuffle=True, persistent_workers=True)

    path = tmp_path / "stop.ckpt"
    plain = fit(make(), seed=3, callbacks=[])
    seeds = [{seed for batch, _ in plain[first : first + 6] for seed in batch[1::2]} for first in (0, 6, 12)]
    assert [len(of_epoch) for of_epoch in seeds] == [2, 2, 2], "one a worker"
    assert len(set.union(*seeds)) == 6, "others in each epoch"
    before = fit(make(), seed=3, callbacks=[Stop(8, path)])
    assert before + fit(make(), seed=99, callbacks=[], ckpt_path=path) == plain


def test_the_loader_is_not_changed() -> None:
    loader: DataLoader[Any] = DataLoader(Numbers(), 4, shuffle=True, num_workers=1)
    before = dict(vars(loader))
    fit(loader, seed=0, callbacks=[])
    assert vars(loader) == before


def test_data_that_changed_under_a_checkpoint_is_said(tmp_path: Path) -> None:
    path = tmp_path / "stop.ckpt"
    fit([torch.tensor([i]) for i in range(6)], seed=3, callbacks=[Stop(4, path)])
    with pytest.raises(lk.errors.DataError) as caught:
        fit([torch.tensor([i]) for i in range(2)], seed=3, callbacks=[], ckpt_path=path)
    assert str(caught.value) == (
        "resuming: the training loader ended after 2 batches, the checkpoint was taken after 4 of this epoch; the "
        "data is not what it was"
    )


class Rows(TensorDataset):
    """A subclass: read item by item, as its own `__getitem__` may say otherwise."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_tensors_in_memory_are_read_at_once_with_the_same_bits(dtype: torch.dtype) -> None:
    x = torch.randn(SAMPLES, 3, 2, generator=generator()).to(dtype)
    y = torch.arange(SAMPLES)
    for dataset in (TensorDataset(x, y), TensorDataset(x), Rows(x, y), TensorDataset(x.transpose(1, 2), y)):
        torch.manual_seed(1)
        plain = list(DataLoader(dataset, 4, shuffle=True))
        torch.manual_seed(1)
        ours = list(make_source(DataLoader(dataset, 4, shuffle=True), is_keyed=False).open())
        assert len(plain) == len(ours) == 6
        for a, b in zip(plain, ours, strict=True):
            assert type(a) is type(b) and len(a) == len(b)
            for one, other in zip(a, b, strict=True):
                assert one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    ours[0][0].zero_()
    assert torch.equal(x, dataset.tensors[0].transpose(1, 2)), "a batch is a copy"


class Draws(lk.Callback):
    """Draws a number after an epoch, as a callback that picks samples to show does."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        torch.rand(1)


class Look(lk.Callback):
    """Writes down whether the next epoch was opened before this one's end, and where."""

    def __init__(self) -> None:
        self.ahead: list[bool] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.ahead.append(trainer.fit_loop.run.data.source.ahead is not None)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("draws", [False, True])
def test_workers_that_stay_begin_the_next_epoch_early_and_nothing_changes(
    tmp_path: Path, draws: bool, own: bool
) -> None:
    def make() -> Any:
        options = {"generator": generator()} if own else {}
        return DataLoader(Numbers(), 4, shuffle=True, num_workers=2, persistent_workers=True, **options)

    torch.manual_seed(3)
    model, loader, plain = Watching(), make(), []
    assert model.weight.item() == 0.0
    for _ in range(EPOCHS):
        plain += [(batch.reshape(-1).tolist(), torch.rand(1).item()) for batch in loader]
        if draws:
            torch.rand(1)
    look, more = Look(), [Draws()] if draws else []
    assert fit(make(), seed=3, callbacks=[look, *more]) == plain
    assert look.ahead == [True, True, False], "the last epoch is followed by none"
    for stop in (6, 7, 12):  # the last step of an epoch, with the next one opened or about to be
        path = tmp_path / f"{stop}.ckpt"
        before = fit(make(), seed=3, callbacks=[Stop(stop, path), *more])
        assert before + fit(make(), seed=99, callbacks=more, ckpt_path=path) == plain


class Reweighs(lk.Callback):
    """Changes what is drawn from, as boosting and curricula do, once the next epoch is open."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        self.change, self.ahead = change, False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.ahead = self.ahead or trainer.fit_loop.run.data.source.ahead is not None
        if trainer.current_epoch == 0:
            self.change(trainer.train_dataloader.sampler)


@pytest.mark.parametrize(
    ("sampler", "change"),
    [
        (lambda: WeightedRandomSampler([1.0] * SAMPLES, 12), lambda s: s.weights[3:].zero_()),
        (lambda: SubsetRandomSampler(list(range(12))), lambda s: s.indices.reverse()),
    ],
)
def test_a_sampler_that_is_changed_after_an_epoch_decides_the_next_one(
    sampler: Callable[[], Any], change: Callable[[Any], None]
) -> None:
    def make() -> Any:
        return DataLoader(Numbers(), 4, sampler=sampler(), num_workers=1, persistent_workers=True)

    torch.manual_seed(3)
    model, loader, plain = Watching(), make(), []
    assert model.weight.item() == 0.0
    for epoch in range(EPOCHS):
        plain += [(batch.reshape(-1).tolist(), torch.rand(1).item()) for batch in loader]
        if epoch == 0:
            change(loader.sampler)
    reweighs = Reweighs(change)
    assert fit(make(), seed=3, callbacks=[reweighs]) == plain
    assert reweighs.ahead


class SavesAtEnd(lk.Callback):
    def __init__(self, path: Path):
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def test_a_checkpoint_taken_while_the_next_epoch_is_open_knows_nothing_of_it(tmp_path: Path) -> None:
    def make() -> Any:
        return DataLoader(Numbers(), 4, shuffle=True, num_workers=2, persistent_workers=True)

    whole, path = fit(make(), seed=3, callbacks=[]), tmp_path / "end.ckpt"
    before = fit(make(), seed=3, callbacks=[SavesAtEnd(path)])
    assert before + fit(make(), seed=99, callbacks=[], ckpt_path=path) == whole
