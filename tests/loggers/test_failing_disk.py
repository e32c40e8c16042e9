"""Loggers whose disk is full, whose folder is deleted or cannot be made, alone and in a run."""

from __future__ import annotations

import csv
import re
import resource
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightkit.callbacks import Callback
from lightkit.errors import ConfigError, RunDirError
from lightkit.loggers import CSVLogger, Logger, TensorBoardLogger, tensorboard
from lightkit.module import LightModule
from lightkit.trainer import Trainer

# TensorBoard's writer has a thread, which prints what it fails with
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

GOES_ON = (
    "; the training goes on, what comes later is tried again, and the end says what is missing "
    "(Trainer(on_log_error='raise') stops instead)"
)


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: writes are cut short, as on a full disk, and fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Module(LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).sum()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class At(Callback):
    """Does something once, before a step."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            self.action()


def fit(folder: Path, logger: Logger, *callbacks: Callback, **arguments: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=1, logger=logger, callbacks=list(callbacks),
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, run_dir=folder, **arguments,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(torch.arange(8.0)[:, None]))
    return trainer


def messages(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught]


def test_a_run_outlives_its_deleted_folder_and_keeps_the_rows_that_came_after(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.warns(UserWarning) as caught:
        trainer = fit(folder, CSVLogger(flush_logs_every_n_steps=1), At(4, lambda: shutil.rmtree(folder)))
    assert trainer.global_step == 8
    path = folder / "metrics.csv"
    assert messages(caught) == [
        f"CSVLogger: cannot write to {folder}: {path} was deleted while the run was going on, with 4 rows{GOES_ON}",
        f"CSVLogger: missing in {folder}: 4 rows of metrics.csv; the reason: CSVLogger: cannot write to {folder}: "
        f"{path} was deleted while the run was going on, with 4 rows",
    ]
    assert [row["step"] for row in rows_of(path)] == ["4", "5", "6", "7"]


def test_a_deleted_folder_stops_the_run_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunDirError) as caught:
        fit(
            folder, CSVLogger(flush_logs_every_n_steps=1), At(4, lambda: shutil.rmtree(folder)), on_log_error="raise"
        )
    assert str(caught.value) == (
        f"CSVLogger: cannot write to {folder}: {folder}/metrics.csv was deleted while the run was going on, with 4 rows"
    )


def test_a_metrics_file_that_was_deleted_is_begun_again_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    with pytest.warns(UserWarning, match="was deleted while the run was going on, with 4 rows"):
        fit(path.parent, CSVLogger(flush_logs_every_n_steps=1), At(4, path.unlink))
    assert [row["step"] for row in rows_of(path)] == ["4", "5", "6", "7"]


def test_events_go_on_in_a_new_file_after_their_folder_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(tensorboard, "_FIRST_PAUSE_S", 0.0)
    folder = tmp_path / "run"
    logger = TensorBoardLogger()

    def delete() -> None:
        logger.save()  # its thread writes nothing while the folder is deleted
        shutil.rmtree(folder)

    with pytest.warns(UserWarning) as caught:
        trainer = fit(folder, logger, At(4, delete), At(6, logger.save))
    assert trainer.global_step == 8
    assert [text.partition(":")[0] for text in messages(caught)] == ["TensorBoardLogger"] * 2
    assert f"missing in {folder}: up to " in messages(caught)[1]
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("loss")][-2:] == [6, 7]


def test_a_full_disk_is_one_warning_and_loses_no_row_where_there_is_room_again(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version=0, flush_logs_every_n_steps=1)
    logger._attach_policy("warn")
    with pytest.warns(UserWarning) as caught, disk_with_room_for(200):
        for step in range(60):
            logger.log_metrics({"loss": step / 8, "epoch": 0}, step=step)
    log_dir = tmp_path / "lightning_logs" / "version_0"
    assert messages(caught) == [f"CSVLogger: cannot write to {log_dir}: File too large{GOES_ON}"]
    in_file = rows_of(log_dir / "metrics.csv")
    assert 5 < len(in_file) < 60 and all(row["epoch"] == "0" for row in in_file)
    logger.finalize("success")
    expected = [{"step": str(step), "loss": str(step / 8), "epoch": "0"} for step in range(60)]
    assert rows_of(log_dir / "metrics.csv") == expected
    assert sorted(path.name for path in log_dir.iterdir()) == ["hparams.yaml", "metrics.csv"]


def test_what_a_full_disk_has_cost_is_said_at_the_end_of_the_run(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as caught, ExitStack() as stack:
        full = At(0, lambda: stack.enter_context(disk_with_room_for(40)))
        trainer = fit(tmp_path / "run", CSVLogger(tmp_path, version=0, flush_logs_every_n_steps=2), full)
    assert trainer.global_step == 8
    log_dir = tmp_path / "lightning_logs" / "version_0"
    missing = 8 - len(rows_of(log_dir / "metrics.csv"))
    assert missing > 2
    why = f"CSVLogger: cannot write to {log_dir}: File too large"
    told = messages(caught)
    assert [text for text in told if text.startswith("CSVLogger")] == [
        f"{why}{GOES_ON}",
        f"CSVLogger: missing in {log_dir}: {missing} rows of metrics.csv; the reason: {why}",
    ]
    (other,) = (text for text in told if not text.startswith("CSVLogger"))
    assert other.startswith(f"cannot write {tmp_path}/run/run.json: File too large, ")
    assert other.endswith(
        "; the fit has come to its end, only its directory does not say so, and resume='auto' would go on from its "
        "newest checkpoint"
    )


class InMemory:
    """A logger that writes nothing to disk, so that the run writes `metrics.csv` itself."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(step)

    def log_hyperparams(self, params: Any) -> None:
        pass


def test_the_runs_own_table_on_a_full_disk_is_as_a_loggers(tmp_path: Path) -> None:
    logger: Any = InMemory()
    with pytest.warns(UserWarning) as caught, ExitStack() as stack:
        full = At(2, lambda: stack.enter_context(disk_with_room_for(40)))
        trainer = fit(tmp_path / "run", logger, full)
    assert trainer.global_step == 8 and logger.steps == list(range(8))
    told = [text for text in messages(caught) if text.startswith("RunMetrics")]
    why = f"RunMetrics: cannot write to {tmp_path}/run: File too large"
    missing = 8 - (len(rows_of(tmp_path / "run" / "metrics.csv")) if (tmp_path / "run" / "metrics.csv").exists() else 0)
    assert missing > 2
    assert told == [
        f"{why}{GOES_ON}",
        f"RunMetrics: missing in {tmp_path}/run: {missing} rows of metrics.csv; the reason: {why}",
    ]


def test_a_full_disk_leaves_no_threads_of_event_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(tensorboard, "_LONGEST_PAUSE_S", 0.0)
    logger = TensorBoardLogger(tmp_path, version=0)
    logger._attach_policy("warn")
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.save()
    num_threads = threading.active_count()
    with pytest.warns(UserWarning, match=r"File too large; the training goes on"), disk_with_room_for(300):
        for step in range(1, 100):
            logger.log_metrics({"loss": 1.0}, step=step)
            logger.save()
    assert threading.active_count() < num_threads
    logger.log_metrics({"loss": 2.0}, step=100)
    with pytest.warns(UserWarning, match=r"missing in .*: up to \d\d values; the reason: .*File too large"):
        logger.finalize("success")
    assert threading.active_count() < num_threads


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_directory_that_cannot_be_made_does_not_end_the_training(tmp_path: Path, kind: type[Any]) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.warns(UserWarning) as caught:
        trainer = fit(tmp_path / "run", kind(tmp_path / "taken", version=0))
    assert trainer.global_step == 8
    log_dir = tmp_path / "taken" / "lightning_logs" / "version_0"
    why = f"{kind.__name__}: cannot make the directory {log_dir}: [Errno 20] Not a directory: '{log_dir}'"
    lost = "8 rows of metrics.csv" if kind is CSVLogger else "up to 16 values"
    assert messages(caught) == [f"{why}{GOES_ON}", f"{kind.__name__}: missing in {log_dir}: {lost}; the reason: {why}"]


def test_hyperparameters_that_could_not_be_written_are_written_later(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    logger = CSVLogger(tmp_path / "taken", version=0)
    logger._attach_policy("warn")
    with pytest.warns(UserWarning, match="cannot write .*hparams.yaml"):
        logger.log_hyperparams({"lr": 0.1})
    (tmp_path / "taken").unlink()
    logger.finalize("success")
    assert (tmp_path / "taken" / "lightning_logs" / "version_0" / "hparams.yaml").read_text() == "lr: 0.1\n"


def test_rows_that_cannot_be_written_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightkit.loggers import csv as room

    monkeypatch.setattr(room, "_MOST_HELD", 10)
    logger = CSVLogger(tmp_path, version=0, flush_logs_every_n_steps=1)
    logger._attach_policy("warn")
    with pytest.warns(UserWarning), disk_with_room_for(0):
        for step in range(30):
            logger.log_metrics({"loss": 1.0}, step=step)
    with pytest.warns(UserWarning, match="missing in .*: 20 rows of metrics.csv; the reason"):
        logger.finalize("success")
    assert [row["step"] for row in rows_of(logger.metrics_file)] == [str(step) for step in range(20, 30)]


def test_an_end_that_cannot_be_written_hides_neither_the_error_before_nor_the_other_logger(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    class Failing(CSVLogger):
        def finalize(self, status: str) -> None:
            super().finalize(status)
            if self.log_dir is not None:
                raise OSError("the line is down")

    def stop() -> None:
        raise KeyboardInterrupt

    second = CSVLogger(flush_logs_every_n_steps=100)
    with pytest.warns(UserWarning, match="^Failing.finalize: the line is down$"), pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", [Failing(), second], At(4, stop))  # type: ignore[arg-type]
    assert second._table is None
    with pytest.raises(OSError, match="^the line is down$"):
        fit(tmp_path / "again", [Failing(), second])  # type: ignore[arg-type]
    assert len(rows_of(tmp_path / "again" / "metrics.csv")) > 0


def test_the_policy_is_one_of_two_words() -> None:
    with pytest.raises(ConfigError) as caught:
        Trainer(on_log_error="rase", max_epochs=1)  # type: ignore[arg-type]
    assert str(caught.value) == "Trainer(on_log_error='rase'): expected one of 'warn', 'raise'; did you mean 'raise'?"


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_store_that_is_down_does_not_end_the_training_and_what_was_logged_is_kept(
    tmp_path: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def put_file(self: object, *args: object, **kwargs: object) -> None:
        raise RuntimeError("the line is down")

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    with pytest.warns(UserWarning) as caught:
        trainer = fit(tmp_path / "run", kind("memory://down", version=0))
    assert trainer.global_step == 8
    first, last = messages(caught)
    why = r"memory://down/lightning_logs/version_0/\S+: RuntimeError: the line is down"
    where = f"{kind.__name__}: missing in memory://down/lightning_logs/version_0: "
    assert re.fullmatch(f"{why}{re.escape(GOES_ON)}", first)
    kept = re.fullmatch(
        rf"{re.escape(where)}what was logged since the last upload, which is kept in (\S+); the reason: {why}", last
    )
    assert kept is not None
    (file,) = Path(kept[1]).iterdir()
    assert file.stat().st_size > 200
    shutil.rmtree(kept[1])


def test_rows_reach_a_store_that_was_down_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    logger = CSVLogger("memory://back", version=0)
    logger._attach_policy("warn")

    def put_file(self: object, *args: object, **kwargs: object) -> None:
        raise RuntimeError("the line is down")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="the line is down; the training goes on"):
        patch.setattr(MemoryFileSystem, "put_file", put_file)
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.save()
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.finalize("success")
    assert logger.metrics_file is not None
    assert logger.metrics_file.read_text().splitlines() == ["step,loss", "0,1.0", "1,2.0"]
