"""A run that is stopped anywhere and resumed, once or twice, ends exactly where the uninterrupted one does."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint

EPOCHS, SAMPLES, BATCH = 3, 22, 4
STEPS = 6  # a epoch, the last one short


class Noisy(Dataset[Any]):
    """Random augmentation from all three generators; none with `augment=False`."""

    def __init__(self, augment: bool = True):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(SAMPLES, 5, generator=generator)
        self.y = torch.randint(0, 3, (SAMPLES,), generator=generator)
        self.augment = augment

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x[index]
        if self.augment:
            x = x + 0.1 * torch.randn(5) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return x, self.y[index]


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.layers(x + torch.randn_like(x)), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Stop(lk.Callback):
    """Saves after a step, with what comes after it still to be done, and ends the process's run there."""

    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def loaders(workers: int, augment: bool = True) -> tuple[DataLoader[Any], DataLoader[Any]]:
    return (
        DataLoader(Noisy(augment), batch_size=BATCH, shuffle=True, num_workers=workers),
        DataLoader(Noisy(augment), batch_size=BATCH, num_workers=workers),
    )


def run(
    root: Path, workers: int, *, stop: int | None = None, resume: Path | None = None, keyed: bool = False,
    seed: int = 7, validate: bool = True, augment: bool = True, **arguments: Any,
) -> tuple[Net, Any]:  # fmt: skip
    lk.seed_everything(seed, workers=keyed, verbose=False)
    net = Net()
    train, val = loaders(workers, augment)
    callbacks: list[Any] = [ModelCheckpoint(monitor="val_loss" if validate else None, save_last=True)]
    if stop is not None:
        callbacks.append(Stop(stop, root / f"stop_{stop}.ckpt"))
    trainer = lk.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", run_dir=root / "run", log_every_n_steps=2, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, **arguments,
    )  # fmt: skip
    try:
        trainer.fit(net, train, val if validate else None, ckpt_path=resume)
    except KeyboardInterrupt:
        assert stop is not None
    return net, trainer


def same_state(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same_state(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def rows(root: Path) -> list[dict[str, str]]:
    with open(root / "run" / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(whole: tuple[Net, Any], parts: tuple[Net, Any]) -> None:
    assert same_state(whole[0].state_dict(), parts[0].state_dict())
    assert same_state(whole[1].optimizers[0].state_dict(), parts[1].optimizers[0].state_dict())
    assert whole[1].callback_metrics == parts[1].callback_metrics
    assert whole[1].global_step == parts[1].global_step == EPOCHS * STEPS


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stops", [(7,), (9,), (12,), (6,), (8, 9), (12, 13)])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, workers: int, stops: tuple[int, ...], keyed: bool
) -> None:
    whole = run(tmp_path / "whole", workers, keyed=keyed)
    root, path = tmp_path / "parts", None
    for number, stop in enumerate(stops):
        run(root, workers, stop=stop, resume=path, keyed=keyed, seed=7 if number == 0 else 100 + number)
        path = root / f"stop_{stop}.ckpt"
    parts = run(root, workers, resume=path, keyed=keyed, seed=999)
    assert_same(whole, parts)
    assert rows(tmp_path / "whole") == rows(root)


def test_resuming_from_the_checkpoint_of_an_epoch_s_end_is_exact(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 0)
    run(tmp_path / "parts", 0, stop=7)  # dies in the second epoch; last.ckpt is the first epoch's
    parts = run(tmp_path / "parts", 0, resume=tmp_path / "parts/run/checkpoints/last.ckpt", seed=5)
    assert_same(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_keyed_runs_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(n), n, keyed=True) for n in (0, 1, 2)]
    for other in runs[1:]:
        assert_same(runs[0], other)
    unkeyed = [run(tmp_path / f"u{n}", n) for n in (1, 2)]
    assert_same(*unkeyed)  # with workers, batches are keyed in any case
    assert not same_state(unkeyed[0][0].state_dict(), run(tmp_path / "u0", 0)[0].state_dict())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("validate", [False, True])
def test_losses_are_those_of_a_plain_loop(tmp_path: Path, workers: int, validate: bool) -> None:
    lk.seed_everything(7, verbose=False)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    train, _ = loaders(workers, augment=False)
    losses = []
    for _ in range(EPOCHS):
        for x, y in train:
            loss = nn.functional.cross_entropy(net.layers(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    class Plain(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    lk.seed_everything(7, verbose=False)
    mine = Plain()
    train, val = loaders(workers, augment=False)
    trainer = lk.Trainer(max_epochs=EPOCHS, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.fit(mine, train, val if validate else None)
    assert mine.losses == losses
    assert same_state(mine.state_dict(), net.state_dict())
