"""Generators that loaders, samplers and data sets hold themselves: drawn from as PyTorch does, and taken up again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

import lightkit as lk
from lightkit.data import generator_states, generators

SIZE, EPOCHS = 20, 3
Seen = list[tuple[list[int], float]]


class Numbers(Dataset[Any]):
    """Items hold one random number, from a generator of the data set's own where it is given one."""

    def __init__(self, draw: Callable[[], float] = lambda: 0.0, holds: Any = None):
        self.draw, self.holds = draw, holds

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, self.draw()], dtype=torch.float64)


class Drawing(Sampler[Any]):
    """Draws with `permute`, batches of five where `is_batched`."""

    def __init__(self, permute: Callable[[], list[int]], holds: Any = None, is_batched: bool = False):
        self.permute, self.holds, self.is_batched = permute, holds, is_batched

    def __iter__(self) -> Iterator[Any]:
        order = self.permute()
        return iter([order[i : i + 5] for i in range(0, SIZE, 5)] if self.is_batched else order)

    def __len__(self) -> int:
        return SIZE // 5 if self.is_batched else SIZE


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def by_numpy(**workers: Any) -> DataLoader[Any]:
    rng = np.random.default_rng(3)
    return DataLoader(Numbers(), 5, sampler=Drawing(lambda: rng.permutation(SIZE).tolist(), rng), **workers)


def by_random(**workers: Any) -> DataLoader[Any]:
    rng = random.Random(3)
    return DataLoader(Numbers(), 5, sampler=Drawing(lambda: rng.sample(range(SIZE), SIZE), rng), **workers)


def lazily(**workers: Any) -> DataLoader[Any]:
    sampler = RandomSampler(Numbers(), replacement=True, num_samples=100, generator=seeded())
    return DataLoader(Numbers(), 8, sampler=sampler, **workers)


LOADERS: dict[str, Callable[..., DataLoader[Any]]] = {
    # PyTorch's RandomSampler draws once more when it is asked for what comes after the last batch
    "full batches": lambda **w: DataLoader(Numbers(), 5, shuffle=True, generator=seeded(), **w),
    "drop_last": lambda **w: DataLoader(Numbers(), 6, shuffle=True, drop_last=True, generator=seeded(), **w),
    "batch sampler": lambda **w: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers(), generator=seeded()), 6, True), **w
    ),
    "lazily": lazily,
    "numpy": by_numpy,
    "random": by_random,
    "batches drawn in __iter__": lambda **w: DataLoader(
        Numbers(), batch_sampler=Drawing(lambda: torch.randperm(SIZE).tolist(), is_batched=True), **w
    ),
}


class Watching(lk.LightModule):
    """Writes down its batches, and draws from the global generator between them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: Seen = []
        self.validated: list[list[float]] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch.reshape(-1).tolist(), torch.rand(1).item()))
        return self.weight.sum() * batch.float().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validated.append(batch.reshape(-1).tolist())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Stop(lk.Callback):
    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(
    loader: Any,
    val: Any = None,
    *,
    seed: int = 3,
    stop: Stop | None = None,
    ckpt_path: Path | None = None,
    **options: Any,
) -> Watching:
    torch.manual_seed(seed)
    model = Watching()
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[stop] if stop else [], **options,
    )  # fmt: skip
    try:
        trainer.fit(model, loader, val, ckpt_path=ckpt_path)
    except KeyboardInterrupt:
        assert stop
    return model


@pytest.mark.parametrize(
    "workers", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}], ids=["none", "one", "stays"]
)
@pytest.mark.parametrize("kind", LOADERS)
def test_own_generators_are_drawn_from_as_in_a_plain_loop(kind: str, workers: dict[str, Any]) -> None:
    torch.manual_seed(3)
    model, loader, plain = Watching(), LOADERS[kind](**workers), []
    for _ in range(EPOCHS):
        plain += [(batch.reshape(-1).tolist(), torch.rand(1).item()) for batch in loader]
    assert model.seen == []
    assert fit(LOADERS[kind](**workers)).seen == plain


@pytest.mark.parametrize("kind", LOADERS)
def test_own_generators_are_taken_up_again_after_any_step(tmp_path: Path, kind: str) -> None:
    whole = fit(LOADERS[kind]()).seen
    for stop in range(1, len(whole)):
        path = tmp_path / f"{stop}.ckpt"
        before = fit(LOADERS[kind](), stop=Stop(stop, path)).seen
        assert before + fit(LOADERS[kind](), seed=99, ckpt_path=path).seen == whole, stop


@pytest.mark.parametrize("library", ["torch", "numpy", "numpy, earlier", "random"])
def test_the_data_set_s_own_generator_is_taken_up_again_without_workers(tmp_path: Path, library: str) -> None:
    def make() -> DataLoader[Any]:
        rng: Any
        if library == "torch":
            rng = seeded()
            return DataLoader(Numbers(lambda: torch.rand(1, generator=rng).item(), rng), 6, shuffle=True)
        if library == "numpy":
            rng = np.random.default_rng(1)
        else:
            rng = random.Random(1) if library == "random" else np.random.RandomState(1)
        return DataLoader(Numbers(rng.random, rng), 6, shuffle=True)

    whole = fit(make()).seen
    for stop in (1, 4, 6):
        path = tmp_path / f"{stop}.ckpt"
        before = fit(make(), stop=Stop(stop, path)).seen
        assert before + fit(make(), seed=99, ckpt_path=path).seen == whole


def test_validation_workers_that_stay_draw_the_same_after_a_resume(tmp_path: Path) -> None:
    def loaders() -> tuple[Any, Any]:
        val = Numbers(lambda: torch.rand(1).item())
        return DataLoader(Numbers(), 5), DataLoader(val, 10, num_workers=1, persistent_workers=True)

    whole = fit(*loaders(), num_sanity_val_steps=2).validated
    path = tmp_path / "stop.ckpt"
    fit(*loaders(), stop=Stop(6, path), num_sanity_val_steps=2)
    assert fit(*loaders(), seed=99, ckpt_path=path).validated == whole[-4:]
    assert whole[-4:-2] != whole[-2:]


def test_a_loader_with_an_iterator_of_its_own_is_asked_for_it() -> None:
    class Doubling(DataLoader[Any]):
        def _get_iterator(self) -> Any:
            return map(lambda batch: batch * 2, super()._get_iterator())

    seen = fit(Doubling(Numbers(), 10)).seen
    assert [batch[0::2] for batch, _ in seen[:2]] == [[2.0 * i for i in range(10)], [2.0 * i for i in range(10, 20)]]


def test_overfitting_with_a_batch_sampler_takes_the_first_samples_in_order() -> None:
    loader = DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers()), 4, False))
    seen = fit(loader, overfit_batches=2).seen
    assert [batch[0::2] for batch, _ in seen] == [[0, 1, 2, 3], [4, 5, 6, 7]] * EPOCHS


def test_overfitting_keeps_the_order_of_a_batch_sampler_without_a_size() -> None:
    loader = DataLoader(Numbers(), batch_sampler=Drawing(lambda: list(range(SIZE))[::-1], is_batched=True))
    assert [batch[0] for batch, _ in fit(loader, overfit_batches=1).seen] == [19.0] * EPOCHS


def test_generators_are_found_by_their_place_each_one_once() -> None:
    shared = seeded()
    loader = DataLoader(Numbers(holds=np.random.default_rng(0)), 4, shuffle=True, generator=shared)
    found = generators.find(loader)
    assert sorted(found) == ["dataset.holds", "generator"]
    states = generators.capture(loader)
    first = (torch.rand(3, generator=shared).tolist(), loader.dataset.holds.random())  # type: ignore[attr-defined]
    generator_states.restore(loader, {**states, "gone.generator": states["generator"]})
    assert (torch.rand(3, generator=shared).tolist(), loader.dataset.holds.random()) == first  # type: ignore[attr-defined]
