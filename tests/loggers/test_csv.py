import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lightkit.errors import ConfigError, RunDirError
from lightkit.loggers import CSVLogger


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def attached(run_dir: Path, **kwargs: object) -> CSVLogger:
    logger = CSVLogger(**kwargs)
    logger._attach_run_dir(run_dir)
    return logger


def test_rows_go_to_the_run_directory_and_keep_every_digit(tmp_path: Path) -> None:
    logger = attached(tmp_path / "run")
    logger.log_metrics({"loss": 0.1 + 0.2, "epoch": 0.0}, step=4)
    logger.log_metrics({"loss": math.nan, "epoch": 0.0}, step=9)
    logger.finalize("success")
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    assert rows == [
        {"step": "4", "loss": "0.30000000000000004", "epoch": "0.0"},
        {"step": "9", "loss": "nan", "epoch": "0.0"},
    ]


def test_a_new_metric_adds_a_column_and_keeps_the_earlier_rows(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.save()
    logger.log_metrics({"acc": 0.5}, step=1)
    logger.log_metrics({"loss": 2.0}, step=2)
    logger.save()
    assert rows_of(tmp_path / "metrics.csv") == [
        {"step": "0", "loss": "1.0", "acc": ""},
        {"step": "1", "loss": "", "acc": "0.5"},
        {"step": "2", "loss": "2.0", "acc": ""},
    ]


def test_rows_are_written_every_n_steps_and_held_between(tmp_path: Path) -> None:
    logger = attached(tmp_path, flush_logs_every_n_steps=10)
    logger.log_metrics({"loss": 1.0}, step=5)
    assert not (tmp_path / "metrics.csv").exists()
    logger.log_metrics({"loss": 1.0}, step=10)
    assert len(rows_of(tmp_path / "metrics.csv")) == 2
    logger.log_metrics({"loss": 1.0}, step=15)
    assert len(rows_of(tmp_path / "metrics.csv")) == 2
    logger.log_metrics({"loss": 1.0}, step=20)
    assert len(rows_of(tmp_path / "metrics.csv")) == 4


def test_the_file_is_rewritten_only_for_a_new_column(tmp_path: Path) -> None:
    logger = attached(tmp_path, flush_logs_every_n_steps=1)
    logger.log_metrics({"loss": 1.0}, step=1)
    inode = (tmp_path / "metrics.csv").stat().st_ino
    for step in range(2, 50):
        logger.log_metrics({"loss": 1.0}, step=step)
    assert (tmp_path / "metrics.csv").stat().st_ino == inode
    logger.log_metrics({"acc": 1.0}, step=50)
    assert (tmp_path / "metrics.csv").stat().st_ino != inode
    assert len(rows_of(tmp_path / "metrics.csv")) == 50


def test_without_a_step_the_number_of_rows_stands_for_it(tmp_path: Path) -> None:
    logger = attached(tmp_path, prefix="a")
    logger.log_metrics({"loss": 1.0})
    logger.log_metrics({"loss": 2.0})
    logger.save()
    assert rows_of(tmp_path / "metrics.csv") == [
        {"step": "0", "a-loss": "1.0"},
        {"step": "1", "a-loss": "2.0"},
    ]


def log_steps(logger: CSVLogger, first: int, last: int) -> None:
    for step in range(first, last):
        logger.log_metrics({"loss": step / 10}, step=step)
        if step % 5 == 4:
            logger.log_metrics({"val_loss": step / 7, "epoch": step // 5}, step=step)


@pytest.mark.parametrize("stopped_at", [2, 5, 8])
def test_a_resumed_file_equals_the_uninterrupted_one_and_the_dropped_rows_are_kept(
    tmp_path: Path, stopped_at: int
) -> None:
    whole = attached(tmp_path / "whole")
    log_steps(whole, 0, 15)
    whole.finalize("success")

    killed = attached(tmp_path / "killed")
    log_steps(killed, 0, stopped_at)
    state = killed.state_dict()
    log_steps(killed, stopped_at, 11)
    killed.finalize("failed")
    dropped = rows_of(tmp_path / "killed" / "metrics.csv")[state["num_rows"] :]

    resumed = attached(tmp_path / "killed")
    resumed.load_state_dict(state)
    log_steps(resumed, stopped_at, 15)
    resumed.finalize("success")
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("killed", "whole")]
    assert texts[0] == texts[1]
    assert rows_of(tmp_path / "killed" / "metrics.before_resume_1.csv") == dropped
    assert len(dropped) == 11 - state["num_rows"]


def test_a_row_that_grew_after_the_checkpoint_is_as_it_was_and_the_rest_of_it_is_kept(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 1.0, "epoch": 0}, step=0)
    logger.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    state = logger.state_dict()
    logger.log_metrics({"val": 9.0, "epoch": 0}, step=1)
    logger.log_metrics({"loss": 9.0, "epoch": 1}, step=2)
    logger.finalize("failed")
    assert (tmp_path / "metrics.csv").read_text().split() == [
        "step,loss,epoch,val", "0,1.0,0,", "1,2.0,0,9.0", "2,9.0,1,",
    ]  # fmt: skip
    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,loss,epoch", "0,1.0,0", "1,2.0,0"]
    aside = (tmp_path / "metrics.before_resume_1.csv").read_text().split()
    assert aside == ["step,loss,epoch,val", "1,,0,9.0", "2,9.0,1,"]
    assert resumed.state_dict() == state
    resumed.log_metrics({"val": 3.0, "epoch": 0}, step=1)
    resumed.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,loss,epoch,val", "0,1.0,0,", "1,2.0,0,3.0"]


def test_what_is_logged_at_one_step_is_one_row(tmp_path: Path) -> None:
    logger = attached(tmp_path, flush_logs_every_n_steps=1)
    for step in range(3):
        logger.log_metrics({"loss": float(step), "epoch": 0}, step=step)
        logger.log_metrics({"lr": 0.5}, step=step)
        logger.save()
        logger.log_metrics({"val": 2.0 * step, "epoch": 0}, step=step)
    logger.log_metrics({"val": 7.0, "epoch": 0}, step=2)  # has one already
    logger.log_metrics({"other": 7.0, "epoch": 1}, step=2)  # of another epoch
    logger.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().split() == [
        "step,loss,epoch,lr,val,other", "0,0.0,0,0.5,0.0,", "1,1.0,0,0.5,2.0,", "2,2.0,0,0.5,4.0,", "2,,0,,7.0,",
        "2,,1,,,7.0",
    ]  # fmt: skip


def test_a_row_that_grows_leaves_what_others_wrote_after_it(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 1.0, "val": 0.0}, step=0)
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.save()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("5,5.0,5.0\n")
    logger.log_metrics({"val": 3.0}, step=1)
    logger.finalize("success")
    rows = (tmp_path / "metrics.csv").read_text().split()
    assert rows == ["step,loss,val", "0,1.0,0.0", "1,2.0,", "5,5.0,5.0", "1,2.0,3.0"]


def test_the_experiment_has_what_lightnings_has(tmp_path: Path) -> None:
    logger = attached(tmp_path / "run", prefix="p")
    writer = logger.experiment
    assert writer.metrics_file_path == str(tmp_path / "run" / "metrics.csv") and writer.log_dir == str(tmp_path / "run")
    writer.log_metrics({"loss": torch.tensor(0.5)})
    writer.log_metrics({"loss": 0.25}, step=3)
    assert writer.metrics == [{"step": 0, "loss": 0.5}, {"step": 3, "loss": 0.25}]
    writer.log_hparams({"lr": 0.1})
    writer.save()
    assert writer.metrics == [] and writer.hparams == {"lr": 0.1}
    assert rows_of(tmp_path / "run" / "metrics.csv") == [{"step": "0", "loss": "0.5"}, {"step": "3", "loss": "0.25"}]
    assert yaml.safe_load((tmp_path / "run" / "hparams.yaml").read_text()) == {"lr": 0.1}


def test_hyperparameters_may_be_none_and_their_file_is_there_all_the_same(tmp_path: Path) -> None:
    logger = attached(tmp_path / "told")
    logger.log_hyperparams()
    assert (tmp_path / "told" / "hparams.yaml").read_text() == "{}\n"
    untold = attached(tmp_path / "untold")
    untold.save()
    assert not (tmp_path / "untold").exists()
    untold.log_metrics({"loss": 1.0}, step=0)
    untold.save()
    assert (tmp_path / "untold" / "hparams.yaml").read_text() == "{}\n"
    other = attached(tmp_path / "told")
    other.log_metrics({"loss": 1.0}, step=0)
    (tmp_path / "told" / "hparams.yaml").write_text("lr: 0.1\n")
    other.finalize("success")
    assert (tmp_path / "told" / "hparams.yaml").read_text() == "lr: 0.1\n"


def test_each_resume_keeps_its_own_dropped_rows(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    log_steps(logger, 0, 3)
    state = logger.state_dict()
    for _ in range(2):
        log_steps(logger, 3, 6)
        logger.load_state_dict(state)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["hparams.yaml", "metrics.before_resume_1.csv", "metrics.before_resume_2.csv", "metrics.csv"]


def test_a_checkpoint_writes_the_held_rows_so_that_a_kill_after_it_loses_none(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=1)
    assert logger.state_dict() == {"num_rows": 1, "columns": ["step", "loss"], "last_row": {"step": 1, "loss": 1.0}}
    assert len(rows_of(tmp_path / "metrics.csv")) == 1


def test_a_row_cut_short_by_a_crash_is_dropped_when_the_file_is_continued(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n0,1.0\n1,2.")
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 3.0}, step=1)
    logger.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,loss", "0,1.0", "1,3.0"]


def test_a_file_shorter_than_the_checkpoint_says_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.0\n")
    with pytest.warns(UserWarning) as caught:
        attached(tmp_path).load_state_dict({"num_rows": 3, "columns": ["step", "loss"]})
    assert [str(w.message) for w in caught] == [
        f"CSVLogger: {path} holds 1 rows, but the checkpoint was taken after 3; going on at its end."
    ]


def test_own_directories_are_numbered_as_lightning_numbers_them(tmp_path: Path) -> None:
    for expected in (0, 1):
        logger = CSVLogger(tmp_path, name="exp")
        logger._attach_run_dir(tmp_path / "run_dir_not_used")
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.finalize("success")
        assert logger.version == expected
        assert logger.log_dir == str(tmp_path / "exp" / f"version_{expected}")
        assert (tmp_path / "exp" / f"version_{expected}" / "metrics.csv").exists()
    named = CSVLogger(tmp_path, name="exp", version="try")
    assert named.log_dir == str(tmp_path / "exp" / "try")
    assert not (tmp_path / "run_dir_not_used").exists()


def test_a_resumed_run_goes_on_in_its_own_numbered_directory(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path, name="exp")
    log_steps(first, 0, 3)
    state = first.state_dict()
    resumed = CSVLogger(tmp_path, name="exp")
    assert resumed.version == 1
    resumed.load_state_dict(state)
    log_steps(resumed, 3, 5)
    resumed.finalize("success")
    assert [path.name for path in (tmp_path / "exp").iterdir()] == ["version_0"]
    assert len(rows_of(tmp_path / "exp" / "version_0" / "metrics.csv")) == 5


def test_hyperparameters_are_written_as_plain_yaml(tmp_path: Path) -> None:
    logger = attached(tmp_path)
    params = {"lr": 1e-3, "dims": (1, 2), "root": Path("/x"), "opt": {"name": "sgd"}, "none": None}
    logger.log_hyperparams(params)
    logger.log_hyperparams({"more": True})
    assert yaml.safe_load((tmp_path / "hparams.yaml").read_text()) == {
        "lr": 0.001,
        "dims": [1, 2],
        "root": "/x",
        "opt": {"name": "sgd"},
        "none": None,
        "more": True,
    }


def test_writing_before_a_directory_is_known_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        CSVLogger().log_metrics({"loss": 1.0})
    assert str(caught.value) == (
        "CSVLogger: no directory to write to yet; pass CSVLogger(save_dir=...) or hand it to a Trainer."
    )


def test_flushing_every_zero_steps_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        CSVLogger(flush_logs_every_n_steps=0)
    assert str(caught.value) == "CSVLogger(flush_logs_every_n_steps=0): expected at least 1."


def test_a_subclass_may_choose_the_directory_of_all_versions(tmp_path: Path) -> None:
    class Elsewhere(CSVLogger):
        @property
        def root_dir(self) -> str:
            return str(tmp_path / "elsewhere")

    assert Elsewhere(tmp_path, version=3).log_dir == str(tmp_path / "elsewhere" / "version_3")


def test_hyperparameters_that_cannot_be_written_are_not_called_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "hparams.yaml").mkdir()
    with pytest.raises(RunDirError, match=rf"^cannot write {tmp_path}/hparams.yaml: Is a directory;"):
        attached(tmp_path).log_hyperparams({"lr": 0.1})


def test_hyperparameters_of_numpy_are_plain_in_the_file(tmp_path: Path) -> None:
    values = {"one": np.longdouble(0.5), "some": np.array([0.5], np.longdouble), "n": np.int64(3), "z": np.array([1j])}
    attached(tmp_path).log_hyperparams(values)
    saved = yaml.safe_load((tmp_path / "hparams.yaml").read_text())
    assert saved == {"one": "0.5", "some": ["0.5"], "n": 3, "z": ["1j"]}
