"""MLFlowLogger with the real package and a store of SQLite; making one takes MLflow ten seconds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.errors import ConfigError
from lightkit.loggers import MLFlowLogger

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow


class Net(lk.LightModule):
    def __init__(self, lr: float = 0.01, more: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().sum()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val (mean)", self.layer(batch).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def data() -> DataLoader[Any]:
    return DataLoader(torch.arange(4.0)[:, None])


def trainer(folder: Path, logger: Any, **options: Any) -> lk.Trainer:
    asked: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "enable_progress_bar": False,
        "enable_model_summary": False, "run_dir": folder, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return lk.Trainer(logger=logger, **{**asked, **options})


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, made once."""
    folder = tmp_path_factory.mktemp("store")
    logger = MLFlowLogger("unused", save_dir=folder)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")
    return folder / "mlflow.db"


@pytest.fixture
def run_dir(empty_store: Path, tmp_path: Path) -> Path:
    """A directory with such a store."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def history(logger: MLFlowLogger, name: str) -> list[tuple[int, float]]:
    found = logger.experiment.get_metric_history(str(logger.run_id), name)
    return sorted((metric.step, metric.value) for metric in found)


def status(logger: MLFlowLogger) -> str:
    assert logger._client is not None
    return str(logger._client.get_run(str(logger._run_id)).info.status)


def test_the_store_and_the_artifacts_are_in_the_run_directory(tmp_path: Path) -> None:
    logger = MLFlowLogger("tests", run_name="first", tags={"kind": "small"})
    t = trainer(tmp_path / "run", logger)
    t.fit(Net(more={"width": 3}), data(), data())
    assert status(logger) == "FINISHED"
    assert (tmp_path / "run" / "mlflow.db").is_file() and t.log_dir == str(tmp_path / "run")
    run = logger.experiment.get_run(str(logger.run_id))
    assert run.info.run_name == "first" and run.data.tags["kind"] == "small"
    assert run.data.params == {"lr": "0.01", "more/width": "3"}
    assert run.info.artifact_uri.startswith(str(tmp_path / "run" / "artifacts"))
    assert [step for step, _ in history(logger, "loss")] == list(range(8))
    assert [step for step, _ in history(logger, "val mean")] == [3, 7]
    logger.finalize("success")


def test_checkpoints_are_artifacts_where_that_is_asked_for(run_dir: Path) -> None:
    logger = MLFlowLogger(log_model=True, artifact_location=str(run_dir / "elsewhere"))
    saving = ModelCheckpoint(monitor="val (mean)", filename="{epoch}", save_weights_only=True)
    trainer(run_dir, logger, callbacks=[saving]).fit(Net(), data(), data())
    (best,) = run_dir.glob("elsewhere/*/artifacts/*/*.ckpt")
    assert best.name == Path(saving.best_model_path).name
    assert {p.name for p in best.parent.iterdir()} == {best.name, "aliases.txt", "metadata.yaml"}
    assert (best.parent / "aliases.txt").read_text() == "['latest', 'best']"


class Stop(RuntimeError):
    pass


class StopAt(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            raise Stop


def test_a_resumed_fit_goes_on_in_the_same_run(run_dir: Path) -> None:
    saving = {"every_n_train_steps": 4, "save_last": True}
    first = MLFlowLogger()
    with pytest.raises(Stop):
        trainer(run_dir, first, callbacks=[ModelCheckpoint(**saving), StopAt()]).fit(Net(), data())
    assert status(first) == "FAILED"
    second = MLFlowLogger()
    trainer(run_dir, second, callbacks=[ModelCheckpoint(**saving)]).fit(Net(), data(), ckpt_path="last")
    assert second.run_id == first.run_id
    assert [step for step, _ in history(second, "loss")] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    second.finalize("success")
    assert status(second) == "FINISHED"


def test_writing_again_reopens_a_run_that_has_ended(run_dir: Path) -> None:
    logger = MLFlowLogger(save_dir=run_dir)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("interrupted")
    assert status(logger) == "KILLED"
    logger.log_metrics({"a": 2.0}, step=1)
    assert status(logger) == "RUNNING" and history(logger, "a") == [(0, 1.0), (1, 2.0)]
    logger.log_hyperparams({"lr": 1.0})
    logger.log_hyperparams({"lr": 1.0, "other": 2})
    logger.log_hyperparams()
    assert logger.experiment.get_run(str(logger.run_id)).data.params == {"lr": "1.0", "other": "2"}
    logger.finalize("success")


def test_what_fails_is_one_warning_and_the_training_goes_on(run_dir: Path) -> None:
    class Breaks(Callback):
        def on_train_epoch_start(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            if trainer.current_epoch == 1:
                logger._run_id = "no such run"

    logger = MLFlowLogger()
    with pytest.warns(UserWarning) as caught:
        t = trainer(run_dir, logger, callbacks=[Breaks()])
        t.fit(Net(), data())
    assert t.global_step == 8
    told = [str(w.message) for w in caught if str(w.message).startswith("MLFlowLogger")]
    assert len(told) == 2 and told[0].startswith("MLFlowLogger: MlflowException: ")
    assert re.fullmatch(r"MLFlowLogger: \d calls failed, and what they gave is missing", told[1])


def test_a_store_of_files_and_a_run_that_is_not_there_are_refused(run_dir: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        MLFlowLogger(tracking_uri="file:./mlruns")
    assert str(caught.value) == (
        "MLFlowLogger(tracking_uri='file:./mlruns'): MLflow no longer keeps its store of files; leave it out (a store "
        "of SQLite in the run directory), or write 'sqlite:///PATH/mlflow.db'"
    )
    logger = MLFlowLogger(save_dir=run_dir, run_id="0123")
    with pytest.raises(ConfigError) as caught:
        logger.log_metrics({"a": 1.0}, step=0)
    assert str(caught.value) == f"MLFlowLogger(run_id='0123'): sqlite:///{run_dir / 'mlflow.db'} has no such run"
