"""A step costs the same in a run of any length: what is written, kept and rewritten is counted, not timed."""

from __future__ import annotations

import gc
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightkit as lk
from lightkit.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightkit.callbacks import lr_monitor as rates
from lightkit.loggers import CSVLogger, TensorBoardLogger


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Watch(lk.Callback):
    """The inode of metrics.csv after each step: a new one is a file that was rewritten."""

    def __init__(self, path: Path):
        self.path, self.inodes, self.sizes = path, list[int](), list[int]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.path.exists():
            found = self.path.stat()
            if not self.inodes or found.st_ino != self.inodes[-1]:
                self.inodes.append(found.st_ino)
                self.sizes.append(found.st_size)


def loader(batches: int = 10) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(2 * batches, 4)), 2)


def fit(folder: Path, epochs: int, **arguments: Any) -> lk.Trainer:
    callbacks = [*arguments.pop("callbacks", []), EarlyStopping("val_loss", patience=1000)]
    trainer = lk.Trainer(
        max_epochs=epochs, accelerator="cpu", run_dir=folder, callbacks=callbacks, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **arguments,
    )  # fmt: skip
    trainer.fit(Net(), loader(), loader(2))
    return trainer


def test_a_run_of_any_length_rewrites_its_metrics_as_often_and_as_much(tmp_path: Path) -> None:
    rewritten = {}
    for epochs in (3, 12):
        folder = tmp_path / str(epochs)
        watch = Watch(folder / "metrics.csv")
        fit(folder, epochs, callbacks=[watch], logger=[CSVLogger(flush_logs_every_n_steps=1), TensorBoardLogger()])
        rewritten[epochs] = len(watch.inodes)
        assert max(watch.sizes) < 1000, "only while the columns are new, in the first epoch"
        assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 10 * epochs
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert rewritten[3] == rewritten[12] <= 3


def test_rewriting_a_table_holds_no_table_in_memory(tmp_path: Path) -> None:
    logger = CSVLogger()
    logger._attach_run_dir(tmp_path)
    for step in range(20_000):
        logger.log_metrics({"loss": step / 7, "accuracy": step / 9}, step)
    logger.save()
    size = (tmp_path / "metrics.csv").stat().st_size
    inode = (tmp_path / "metrics.csv").stat().st_ino
    tracemalloc.start()
    logger.log_metrics({"late": 1.0}, 20_000)
    logger.finalize("success")
    again = CSVLogger()
    again._attach_run_dir(tmp_path)
    again.load_state_dict({"num_rows": 15_000, "columns": ["step", "loss", "accuracy"]})
    assert again.state_dict()["num_rows"] == 15_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "metrics.csv").stat().st_ino != inode
    assert peak < size / 3


def test_what_is_kept_of_the_rates_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEPT", 10)
    monitor = LearningRateMonitor("step")
    fit(tmp_path, 6, callbacks=[monitor])
    (seen,) = monitor.lrs.values()
    assert 10 <= len(seen) < 20


def parts(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return len(archive.namelist())


def test_a_checkpoint_grows_by_a_name_and_a_number_for_each_that_is_kept(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(monitor="val_loss", save_top_k=-1, filename="{epoch:02d}")
    fit(tmp_path, 30, callbacks=[checkpoint])
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert len(files) == 30 == len(checkpoint.best_k_models)
    assert parts(files[-1]) - parts(files[2]) < 4, "not one for each file that is kept"
    one = len(str(files[0])) + len(files[0].name) + 40  # in the state, and in the note of what is kept
    assert os.path.getsize(files[-1]) - os.path.getsize(files[2]) < 27 * one


def test_a_longer_epoch_leaves_no_more_objects(tmp_path: Path) -> None:
    class Count(lk.Callback):
        def __init__(self) -> None:
            self.objects: list[int] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step in (400, 1400):  # both some steps after the same multiple of the kept window
                gc.collect()
                self.objects.append(len(gc.get_objects()))

    count = Count()
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", run_dir=tmp_path, callbacks=[count], log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), loader(1500))
    first, last = count.objects
    assert last - first < 200, "a thousand steps, each logged and written"
