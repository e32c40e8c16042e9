"""Both loggers in a real run that is killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.loggers import CSVLogger, TensorBoardLogger
from lightkit.module import LightModule
from lightkit.trainer import Trainer


class Module(LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.layer.weight, 0.5)
        torch.nn.init.constant_(self.layer.bias, 0.5)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).sum()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val", self.layer(batch).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Killed(RuntimeError):
    pass


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Killed


def fit(directory: Path, kill_at: int = 10**9, ckpt_path: Path | None = None) -> None:
    loggers = [TensorBoardLogger(directory, name="tb"), CSVLogger(directory, name="csv")]
    checkpoint = ModelCheckpoint(directory / "kept", every_n_train_steps=2, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        log_every_n_steps=1,
        logger=loggers,
        callbacks=[checkpoint, Kill(kill_at)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(torch.arange(4.0)[:, None])
    trainer.fit(Module(), data, data, ckpt_path=ckpt_path)


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("saved_at", ["epoch=0-step=2", "epoch=0-step=4", "epoch=1-step=6"])
def test_what_a_resumed_run_logged_equals_the_uninterrupted_one(tmp_path: Path, saved_at: str) -> None:
    fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "cut", kill_at=9)
    fit(tmp_path / "cut", ckpt_path=tmp_path / "cut" / "kept" / f"{saved_at}.ckpt")
    versions = [Path("tb", "version_0"), Path("csv", "version_0")]
    assert [path.name for path in (tmp_path / "cut" / "csv").iterdir()] == ["version_0"]
    assert curves(tmp_path / "cut" / versions[0]) == curves(tmp_path / "whole" / versions[0])
    texts = [(tmp_path / name / versions[1] / "metrics.csv").read_text() for name in ("cut", "whole")]
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == 1 + 12 + 2 * 3
