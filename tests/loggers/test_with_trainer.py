"""Both loggers in a real run that is killed and resumed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.loggers import CSVLogger, Logger, TensorBoardLogger
from lightkit.loggers.dummy import DummyLogger
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


def test_a_loggers_own_method_attach_is_the_users(tmp_path: Path) -> None:
    class Mine(CSVLogger):
        def attach(self, run: str, password: str) -> str:
            return f"{run}, {password}"

    logger = Mine()
    run(tmp_path, [logger])
    assert logger.attach("a run", "a word") == "a run, a word"
    assert Path(str(logger.log_dir), "metrics.csv").exists()


def run(directory: Path, loggers: list[Logger], **options: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=1, logger=loggers, run_dir=directory,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **options,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(torch.arange(4.0)[:, None]))
    return trainer


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda logger: pickle.loads(pickle.dumps(logger))])
def test_a_copy_of_a_logger_that_writes_goes_on_where_it_was(tmp_path: Path, copied: Any) -> None:
    loggers = [TensorBoardLogger(), CSVLogger(), DummyLogger()]
    run(tmp_path, loggers)
    for logger in loggers:
        logger.log_metrics({"loss": 10.0}, 10)  # opens an event file, and holds a row
        other = copied(logger)
        other.log_metrics({"loss": 11.0}, 11)
        other.finalize("success")
        logger.finalize("success")
        assert other.log_dir == logger.log_dir
    assert [(s, v) for s, v in curves(tmp_path)["loss"] if s > 9] == [(10, 10.0), (11, 11.0)]
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 + 1 + 2
    assert [row.split(",")[0] for row in rows[-2:]] == ["10", "11"]


def test_the_room_loads_a_logger_when_it_is_asked_for(repository: Path) -> None:
    code = (
        "import sys, lightkit.loggers as room\n"
        "def files(): return sorted(n.rpartition('.')[2] for n in sys.modules if n.startswith('lightkit.loggers.'))\n"
        "print(files(), dir(room))\n"
        "print(room.CSVLogger.__name__, files())\n"
        "print(hasattr(room, 'CSVLoger'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [
        "[] ['CSVLogger', 'DirectoryLogger', 'Logger', 'TensorBoardLogger']",
        "CSVLogger ['base', 'csv', 'directory']",
        "False",
    ]
