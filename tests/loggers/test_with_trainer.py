"""Both loggers in a real run that is killed and resumed."""

from __future__ import annotations

import copy
import pickle
import re
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
    assert len(texts[0].splitlines()) == 1 + 12


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
    assert len(rows) == 1 + 4 + 2
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
        "[] ['CSVLogger', 'DirectoryLogger', 'Logger', 'MLFlowLogger', 'TensorBoardLogger', 'WandbLogger']",
        "CSVLogger ['base', 'csv', 'directory']",
        "False",
    ]


def killed_and_started_again(folder: Path, kill_at: int, **loggers: Any) -> Path:
    """Both loggers in a run directory of their own; killed before its first checkpoint, then started with "last"."""

    def start(*callbacks: Callback, learning_rate: float) -> None:
        class Tuned(Module):
            def __init__(self, lr: float) -> None:
                super().__init__()
                self.save_hyperparameters()

        trainer = Trainer(
            accelerator="cpu", max_epochs=2, log_every_n_steps=1, callbacks=[ModelCheckpoint(), *callbacks],
            logger=[TensorBoardLogger(**loggers), CSVLogger(flush_logs_every_n_steps=1)], run_dir=folder,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        torch.manual_seed(0)
        trainer.fit(Tuned(learning_rate), DataLoader(torch.arange(8.0)[:, None]), ckpt_path="last")

    message = "trainer.fit(ckpt_path='last'): there is no checkpoint yet, nothing is loaded"
    with pytest.warns(UserWarning, match=re.escape(message)), pytest.raises(Killed):
        start(Kill(kill_at), learning_rate=0.5)
    with pytest.warns(UserWarning, match=re.escape(message)):
        start(learning_rate=0.01)
    return folder


def test_rows_of_a_run_killed_before_its_first_checkpoint_are_set_aside(tmp_path: Path) -> None:
    folder = killed_and_started_again(tmp_path / "run", kill_at=5)
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0] == "step,loss_step,epoch,loss_epoch"
    assert [int(row.partition(",")[0]) for row in rows[1:] if row.split(",")[1]] == list(range(16))
    aside = (folder / "metrics.before_resume_1.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in aside] == ["step", "0", "1", "2", "3", "4"]


def test_events_of_a_run_killed_before_its_first_checkpoint_are_set_aside(tmp_path: Path) -> None:
    folder = killed_and_started_again(tmp_path / "run", kill_at=5)
    found = curves(folder)
    assert [step for step, _ in found["loss_step"]] == list(range(16))
    assert found["hp_metric"] == [(0, -1.0)]
    (aside,) = folder.glob("events.out.before_resume_1.*")
    shown = aside.rename(aside.with_name(aside.name.replace("before_resume_1", "tfevents")))
    (tmp_path / "looked at").mkdir()
    shown.rename(tmp_path / "looked at" / shown.name)
    assert [step for step, _ in curves(tmp_path / "looked at")["loss_step"]] == list(range(5))


def test_a_start_without_last_goes_on_in_the_files_that_are_there(tmp_path: Path) -> None:
    for _ in range(2):
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, log_every_n_steps=1, logger=CSVLogger(), run_dir=tmp_path / "run",
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Module(), DataLoader(torch.arange(8.0)[:, None]))
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 2 * 8
    assert not list((tmp_path / "run").glob("*.before_resume_*"))


@pytest.mark.parametrize("stop_at", [0, 1, 4])
def test_the_metric_of_the_hyperparameters_survives_a_resume(tmp_path: Path, stop_at: int) -> None:
    logger = TensorBoardLogger(tmp_path, version=0)
    logger.log_hyperparams({"lr": 0.1})
    for step in range(stop_at):
        logger.log_metrics({"loss": 1.0}, step=step)
    state = logger.state_dict()
    logger.log_metrics({"loss": 9.0}, step=stop_at + 1)
    logger.finalize("failed")

    resumed = TensorBoardLogger(tmp_path, version=0)
    resumed.load_state_dict(state)
    resumed.log_hyperparams({"lr": 0.1})
    resumed.log_metrics({"loss": 2.0}, step=stop_at)
    resumed.finalize("success")
    found = curves(tmp_path / "lightning_logs" / "version_0")
    assert found["hp_metric"] == [(0, -1.0)]
    assert found["loss"] == [*((step, 1.0) for step in range(stop_at)), (stop_at, 2.0)]
    assert hparams_shown(tmp_path / "lightning_logs") == {"lr": 0.1}


def test_a_logged_hp_metric_is_not_replaced_by_the_default_on_a_resume(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, version=0)
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"hp_metric": 0.75}, step=0)
    state = logger.state_dict()
    logger.finalize("failed")
    resumed = TensorBoardLogger(tmp_path, version=0)
    resumed.load_state_dict(state)
    resumed.log_hyperparams({"lr": 0.1})
    resumed.finalize("success")
    assert curves(tmp_path / "lightning_logs" / "version_0")["hp_metric"] == [(0, 0.75)]
    assert hparams_shown(tmp_path / "lightning_logs") == {"lr": 0.1}


def hparams_shown(folder: Path) -> dict[str, float]:
    """The hyperparameters that TensorBoard's tab shows of the one run in there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    events = EventAccumulator(str(next(folder.iterdir()))).Reload()
    content = events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.SESSION_START_INFO_TAG]
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    return {name: value.number_value for name, value in data.session_start_info.hparams.items()}
