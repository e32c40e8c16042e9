"""WandbLogger with the real package, offline."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import Callback, ModelCheckpoint
from lightkit.errors import ConfigError, MissingExtraError
from lightkit.loggers import WandbLogger, service

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_run_is_left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    yield
    wandb.finish()


class Net(lk.LightModule):
    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.layer.weight, 0.5)
        torch.nn.init.constant_(self.layer.bias, 0.5)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).sum()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val", self.layer(batch).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def data() -> DataLoader[Any]:
    return DataLoader(torch.arange(4.0)[:, None])


def trainer(folder: Path, logger: Any, **options: Any) -> lk.Trainer:
    asked: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return lk.Trainer(logger=logger, **{**asked, **options})


def messages(path: Path) -> Iterator[bytes]:
    """The messages of a file of wandb's, which are chunks in blocks of 32 KiB, as in LevelDB's log."""
    content, position, message = path.read_bytes(), 7, b""  # behind the header of the file
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # no chunk begins there
            position += 32768 - position % 32768
            continue
        size, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        message += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole one, or its last chunk
            yield message
            message = b""


def finished(path: Path) -> list[Any]:
    """All records of a run that has ended; wandb's other process may write the last of them a moment later."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(200):
        found = [Record.FromString(message) for message in messages(path)]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


def records(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the files of all runs in a folder hold: the rows, and the config."""
    wandb.finish()
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in finished(path):
            if record.WhichOneof("record_type") == "history":
                items = [(item.key or "/".join(item.nested_key), item.value_json) for item in record.history.item]
                rows.append({name: json.loads(value) for name, value in items if not name.startswith("_")})
            for update in [*record.config.update, *record.run.config.update]:
                if update.key and not update.key.startswith("_"):
                    config[update.key] = json.loads(update.value_json)
    return rows, config


def test_a_run_of_wandb_has_the_metrics_and_hyperparameters_in_the_run_directory(tmp_path: Path) -> None:
    logger = WandbLogger(offline=True, name="first", project="tests")
    t = trainer(tmp_path, logger)
    t.fit(Net(lr=0.5), data(), data())
    assert t.run_dir == tmp_path / "runs" / "Net" / "version_0" == Path(str(t.log_dir)) == Path(str(logger.save_dir))
    assert logger.name == "tests" and logger.version == logger.experiment.id and logger.experiment.name == "first"
    rows, config = records(t.run_dir)
    steps = [row["trainer/global_step"] for row in rows if "loss" in row]
    assert steps == list(range(8))
    assert [row["trainer/global_step"] for row in rows if "val" in row] == [3, 7]
    assert rows[0]["loss"] == 0.5 and rows[0]["epoch"] == 0
    assert config == {"lr": 0.5}
    assert sorted(p.name for p in t.run_dir.iterdir()) == ["checkpoints", "metrics.csv", "run.json", "wandb"]


def test_no_random_generator_moves(tmp_path: Path) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")
    assert states() == before


def test_with_a_save_dir_the_checkpoints_are_where_lightnings_are(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path / "logs", offline=True, project="tests", version="abc123")
    t = trainer(tmp_path, logger, max_epochs=1)
    t.fit(Net(), data())
    assert (tmp_path / "logs" / "tests" / "abc123" / "checkpoints" / "epoch=0-step=4.ckpt").is_file()
    assert len(list((tmp_path / "logs").glob("wandb/offline-run-*-abc123"))) == 1


class Stop(RuntimeError):
    pass


class StopAt(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            raise Stop


def test_a_resumed_fit_goes_on_in_the_same_run(tmp_path: Path) -> None:
    first = WandbLogger(offline=True)
    saving = ModelCheckpoint(every_n_train_steps=4, save_last=True)
    with pytest.raises(Stop):
        trainer(tmp_path, first, callbacks=[saving, StopAt()]).fit(Net(), data())
    name = first.version
    wandb.finish()
    second = WandbLogger(offline=True)
    t = trainer(tmp_path, second, callbacks=[ModelCheckpoint(every_n_train_steps=4, save_last=True)])
    t.fit(Net(), data(), ckpt_path="last")
    assert second.version == second.experiment.id == name
    rows, _ = records(t.run_dir)
    assert [row["trainer/global_step"] for row in rows] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    again = WandbLogger(offline=True, id="mine")
    again.load_state_dict({"id": name, "project": "lightning_logs"})
    assert again.version == "mine"


def test_a_copy_goes_on_in_the_same_run(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    logger.log_metrics({"a": 1.0}, step=0)
    other = copy.deepcopy(logger)
    other.log_metrics({"a": 2.0}, step=1)
    assert other.experiment is logger.experiment
    rows, _ = records(tmp_path)
    assert [(row["trainer/global_step"], row["a"]) for row in rows] == [(0, 1.0), (1, 2.0)]


def test_an_open_run_is_logged_to_with_a_warning(tmp_path: Path) -> None:
    run = wandb.init(mode="offline", dir=str(tmp_path), id="opened")
    logger = WandbLogger(offline=True)
    text = (
        "WandbLogger: the wandb run opened is open and is logged to; call wandb.finish() before for a run of its own"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        assert logger.experiment is run
    assert WandbLogger(experiment=run).experiment is run


def test_tables_texts_and_media_are_logged(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True, prefix="p")
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (0, 1)]
    logger.log_image("pictures", pictures, step=1, caption=["a", "b"])
    logger.log_text("words", ["one", "two"], step=2)
    logger.log_text("table", columns=["a", "b"], data=[["1", "2"]], step=3)
    with pytest.raises(ConfigError) as caught:
        logger.log_image("pictures", [np.zeros((2, 2, 3), np.uint8)] * 2, caption=["a"])
    assert str(caught.value) == (
        "WandbLogger.log_image('pictures'): expected caption to have one item for each of 2, got 1."
    )
    with pytest.raises(ConfigError) as caught:
        logger.log_image("pictures", np.zeros((2, 2, 3)))  # type: ignore[arg-type]
    assert str(caught.value) == "WandbLogger.log_image('pictures'): expected a list, got ndarray."
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png"))) == 2
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json"))) == 2


def test_what_fails_is_one_warning_and_the_training_goes_on(tmp_path: Path) -> None:
    class Config:
        def update(self, params: dict[str, Any], allow_val_change: bool) -> None:
            pass

    class Broken:
        id, config = "x", Config()

        def log(self, row: dict[str, Any]) -> None:
            raise ConnectionError("the line is down")

    logger = WandbLogger(experiment=Broken())
    with pytest.warns(UserWarning) as caught:
        t = trainer(tmp_path, logger, max_epochs=1)
        t.fit(Net(), data())
    assert t.global_step == 4
    told = [str(w.message) for w in caught if str(w.message).startswith("WandbLogger")]
    assert told == [
        "WandbLogger: ConnectionError: the line is down; the training goes on, what comes later is tried again, and "
        "the end says how much is missing (Trainer(on_log_error='raise') stops instead)",
        "WandbLogger: 4 calls failed, and what they gave is missing",
    ]
    with pytest.raises(ConnectionError, match="the line is down"):
        trainer(tmp_path, WandbLogger(experiment=Broken()), on_log_error="raise").fit(Net(), data())


def test_checkpoints_are_handed_on_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, list[str], float | None]] = []

    def log_artifact(self: Any, artifact: Any, aliases: list[str]) -> None:
        logged.append((artifact.metadata["original_filename"], aliases, artifact.metadata["score"]))

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log_artifact", log_artifact)
    monkeypatch.setattr(WandbLogger, "_offline", property(lambda self: True, lambda self, value: None), raising=False)
    saving = {"monitor": "val", "mode": "min", "filename": "{epoch}"}
    trainer(tmp_path, WandbLogger(log_model=True), callbacks=[ModelCheckpoint(**saving)], max_epochs=3).fit(
        Net(), data(), data()
    )
    assert [(name, aliases) for name, aliases, _ in logged] == [("epoch=2.ckpt", ["latest", "best"])]
    assert logged[0][2] is not None
    wandb.finish()
    logged.clear()
    trainer(tmp_path, WandbLogger(log_model="all"), callbacks=[ModelCheckpoint(**saving)], max_epochs=3).fit(
        Net(), data(), data()
    )
    assert [name for name, _, _ in logged] == ["epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt"]


def test_wrong_arguments_and_a_missing_package_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        WandbLogger(offline=True, log_model="all")
    assert str(caught.value) == (
        "WandbLogger(offline=True, log_model='all'): checkpoints cannot be uploaded offline; leave one of them out"
    )
    with pytest.raises(ConfigError) as caught:
        WandbLogger(log_model="best")  # type: ignore[arg-type]
    assert str(caught.value) == "WandbLogger(log_model='best'): expected True, False or 'all'."
    with pytest.raises(ConfigError) as caught:
        WandbLogger(offline=True).experiment
    assert str(caught.value) == (
        "WandbLogger: no directory to write to yet; pass WandbLogger(save_dir=...) or hand it to a Trainer."
    )
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    monkeypatch.setattr(WandbLogger, "package", "wandb_that_is_not_there")
    with pytest.raises(MissingExtraError) as missing:
        WandbLogger()
    assert str(missing.value) == (
        'wandb_that_is_not_there is needed by WandbLogger: pip install "lightkit[wandb]"'
    )
