"""The same claims on a GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import ModelCheckpoint

pytestmark = pytest.mark.gpu


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self.layers(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def data(workers: int = 0, pin_memory: bool = False) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    dataset = TensorDataset(x, (x.sum(1) > 0).long())
    return DataLoader(dataset, batch_size=16, shuffle=True, num_workers=workers, pin_memory=pin_memory)


def trainer(root: Path, **arguments: Any) -> Any:
    return lk.Trainer(accelerator="gpu", devices=1, run_dir=root, enable_progress_bar=False, **arguments)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
@pytest.mark.parametrize("pin_memory", [False, True])
def test_trains_on_the_gpu(tmp_path: Path, precision: str, pin_memory: bool) -> None:
    lk.seed_everything(0, verbose=False)
    t = trainer(tmp_path, precision=precision, max_epochs=8, gradient_clip_val=1.0)
    model = Net()
    t.fit(model, data(pin_memory=pin_memory), data())
    assert model.device.type == "cuda"
    assert t.callback_metrics["val_acc"] > 0.9


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_exact_on_the_gpu(tmp_path: Path, workers: int) -> None:
    def run(root: Path, **arguments: Any) -> Net:
        lk.seed_everything(3, verbose=False)
        model = Net()
        save = ModelCheckpoint(every_n_train_steps=1, save_last=True, save_top_k=1)
        ckpt_path = arguments.pop("ckpt_path", None)
        trainer(root, callbacks=[save], **arguments).fit(model, data(workers), data(), ckpt_path=ckpt_path)
        return model

    whole = run(tmp_path / "whole", max_epochs=3)
    run(tmp_path / "parts", max_epochs=3, max_steps=21)
    parts = run(tmp_path / "parts", max_epochs=3, ckpt_path=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])


def test_a_step_never_waits_for_the_gpu(tmp_path: Path) -> None:
    class Strict(lk.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            torch.cuda.set_sync_debug_mode("error")

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            torch.cuda.set_sync_debug_mode("default")

    t = trainer(tmp_path, max_epochs=1, callbacks=[Strict()], log_every_n_steps=1000, num_sanity_val_steps=0)
    t.fit(Net(), data(pin_memory=True))
    assert t.global_step == 16
