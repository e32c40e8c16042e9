"""Where metrics go: the default logger, the run's own table, the directory of a first logger, any object that logs."""

from __future__ import annotations

import copy
import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import DataLoader

import lightkit as lk
from lightkit.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightkit.errors import ConfigError, RunDirError
from lightkit.loggers import CSVLogger, Logger, TensorBoardLogger


class Net(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
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
        return torch.optim.SGD(self.parameters(), lr=0.01)


def data() -> DataLoader[Any]:
    return DataLoader(torch.arange(4.0)[:, None])


def trainer(folder: Path, **options: Any) -> lk.Trainer:
    asked = {
        "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return lk.Trainer(**{**asked, **options})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def files_in(folder: Path) -> list[str]:
    return sorted(
        re.sub(r"events\.out\..*", "events", str(p.relative_to(folder))) for p in folder.rglob("*") if p.is_file()
    )


class Recorder:
    """A logger by its methods alone."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append(("metrics", step, metrics))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.calls.append(("hyperparams", params))


# ---------------------------------------------------------------------- the default


@pytest.mark.parametrize("asked", [None, True])
def test_the_default_is_one_tensorboard_logger_and_the_run_writes_its_metrics(tmp_path: Path, asked: Any) -> None:
    t = trainer(tmp_path, logger=asked)
    assert [type(logger) for logger in t.loggers] == [TensorBoardLogger]
    t.fit(Net(), data(), data())
    run = tmp_path / "runs" / "Net" / "version_0"
    assert t.log_dir == str(run) == str(t.run_dir)
    assert files_in(run) == [
        "checkpoints/epoch=1-step=8.ckpt", "events", "hparams.yaml", "metrics.csv", "run.json",
    ]  # fmt: skip
    rows = rows_of(run / "metrics.csv")
    assert [row["step"] for row in rows] == [str(step) for step in range(8)]
    assert [step for step, row in enumerate(rows) if "val" in row] == [3, 7]
    assert yaml.safe_load((run / "hparams.yaml").read_text()) == {}


def test_the_default_logger_says_where_it_writes_as_lightnings_does(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit(Net(), data())
    logger = t.logger
    assert isinstance(logger, TensorBoardLogger)
    assert logger.save_dir == str(tmp_path / "runs") and (logger.name, logger.version) == ("Net", 0)
    assert Path(logger.save_dir, logger.name, f"version_{logger.version}") == t.run_dir == Path(str(logger.log_dir))


def test_with_a_csv_logger_the_run_writes_no_table_of_its_own(tmp_path: Path) -> None:
    t = trainer(tmp_path, logger=[TensorBoardLogger(), CSVLogger(tmp_path / "csv", version=0)])
    t.fit(Net(), data())
    assert not (t.run_dir / "metrics.csv").exists()
    assert len(rows_of(tmp_path / "csv" / "lightning_logs" / "version_0" / "metrics.csv")) == 8


def test_rates_that_a_callback_writes_are_in_the_runs_table_too(tmp_path: Path) -> None:
    t = trainer(tmp_path, callbacks=[LearningRateMonitor("step")])
    t.fit(Net(), data())
    rows = rows_of(t.run_dir / "metrics.csv")
    assert len(rows) == 8 and all(row["lr-SGD"] == "0.01" and "loss" in row for row in rows)


def test_the_runs_table_goes_on_over_calls_and_is_one_in_a_validation_inside_of_a_fit(tmp_path: Path) -> None:
    class Looks(Callback):
        def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
            trainer.validate(pl_module, data(), verbose=False)

    t = trainer(tmp_path, max_epochs=1, callbacks=[Looks()])
    module = Net()
    t.fit(module, data())
    t.validate(module, data(), verbose=False)
    rows = rows_of(t.run_dir / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "4"]
    assert all("val" in row for row in rows[4:]) and rows[4]["epoch"] != rows[5]["epoch"]


class Stop(RuntimeError):
    pass


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Stop


@pytest.mark.parametrize("saved", [{"every_n_train_steps": 2}, {"every_n_epochs": 1}])
def test_a_resumed_run_has_the_rows_of_the_whole_one_in_its_own_table(tmp_path: Path, saved: dict[str, int]) -> None:
    def run(name: str, *callbacks: Callback, path: str | None = None) -> lk.Trainer:
        saving = ModelCheckpoint(save_top_k=-1, save_last=True, **saved)
        t = trainer(tmp_path, run_dir=tmp_path / name, callbacks=[saving, *callbacks], max_epochs=3)
        t.fit(Net(), data(), data(), ckpt_path=path)
        return t

    run("whole")
    with pytest.raises(Stop):
        run("cut", StopAt(7))
    run("cut", path="last")
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 1 + 12
    aside = rows_of(tmp_path / "cut" / "metrics.before_resume_1.csv")
    assert [row["step"] for row in aside] == (["6"] if "every_n_train_steps" in saved else ["4", "5", "6"])


def test_rows_of_the_run_killed_before_its_first_checkpoint_are_set_aside_in_its_own_table(tmp_path: Path) -> None:
    message = "trainer.fit(ckpt_path='last'): there is no checkpoint yet, nothing is loaded"
    for callbacks in ([StopAt(3)], []):
        t = trainer(tmp_path, run_dir=tmp_path / "run", callbacks=callbacks)
        with pytest.warns(UserWarning, match=re.escape(message)):
            if callbacks:
                with pytest.raises(Stop):
                    t.fit(Net(), data(), ckpt_path="last")
            else:
                t.fit(Net(), data(), ckpt_path="last")
    assert [row["step"] for row in rows_of(tmp_path / "run" / "metrics.csv")] == [str(i) for i in range(8)]
    assert len(rows_of(tmp_path / "run" / "metrics.before_resume_1.csv")) == 3


def test_a_copy_of_a_trainer_that_has_fitted_goes_on_in_its_table(tmp_path: Path) -> None:
    t = trainer(tmp_path, max_epochs=1)
    t.fit(Net(), data())
    other = copy.deepcopy(t)
    other.validate(Net(), data(), verbose=False)
    assert len(rows_of(t.run_dir / "metrics.csv")) == 5


def test_a_logger_that_is_put_in_by_a_hook_is_opened(tmp_path: Path) -> None:
    class Replaces(Net):
        def on_fit_start(self) -> None:
            self.trainer.loggers = [*self.trainer.loggers, CSVLogger()]

    t = trainer(tmp_path)
    t.fit(Replaces(), data())
    assert len(t.loggers) == 2
    assert len(rows_of(t.run_dir / "metrics.csv")) == 8


# ---------------------------------------------------------------------- whose directory


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_the_directory_of_a_first_logger_is_the_run_directory(tmp_path: Path, kind: Any) -> None:
    for number in (0, 1):
        t = trainer(tmp_path, logger=kind(tmp_path / "logs", name="exp"))
        t.fit(Net(), data())
        here = tmp_path / "logs" / "exp" / f"version_{number}"
        assert t.run_dir == here and t.log_dir == str(here)
        assert {"checkpoints/epoch=1-step=8.ckpt", "hparams.yaml", "metrics.csv", "run.json"} <= set(files_in(here))
    assert not (tmp_path / "runs").exists()


def test_what_the_user_names_goes_before_a_loggers_place(tmp_path: Path) -> None:
    for option in ({"run_dir": tmp_path / "mine"}, {"run_name": "mine"}):
        t = trainer(tmp_path, logger=TensorBoardLogger(tmp_path / "logs"), **option)
        t.fit(Net(), data())
        assert t.run_dir == (tmp_path / "mine" if "run_dir" in option else tmp_path / "runs" / "mine" / "version_0")
        assert str(t.log_dir).startswith(str(tmp_path / "logs"))


def test_a_resume_goes_on_in_the_directory_of_the_logger(tmp_path: Path) -> None:
    def logger() -> TensorBoardLogger:
        return TensorBoardLogger(tmp_path / "logs", name="exp")

    saving = {"every_n_train_steps": 2, "save_top_k": -1}
    with pytest.raises(Stop):
        trainer(tmp_path, logger=logger(), callbacks=[ModelCheckpoint(**saving), StopAt(5)]).fit(Net(), data())
    t = trainer(tmp_path, logger=logger(), callbacks=[ModelCheckpoint(**saving)])
    t.fit(Net(), data(), ckpt_path="last")
    assert [p.name for p in (tmp_path / "logs" / "exp").iterdir()] == ["version_0"]
    assert t.run_dir == tmp_path / "logs" / "exp" / "version_0" == Path(str(t.log_dir))
    assert [row["step"] for row in rows_of(t.run_dir / "metrics.csv")] == [str(step) for step in range(8)]
    again = trainer(
        tmp_path, logger=logger(), resume="auto", max_epochs=3, callbacks=[ModelCheckpoint(**saving)]
    )
    again.fit(Net(), data())
    assert again.run_dir == t.run_dir and again.global_step == 12


def test_a_loggers_own_version_is_a_new_place_also_on_a_resume(tmp_path: Path) -> None:
    first = trainer(tmp_path, logger=TensorBoardLogger(tmp_path / "logs", version="a"), max_epochs=1)
    first.fit(Net(), data())
    t = trainer(tmp_path, logger=TensorBoardLogger(tmp_path / "logs", version="b"))
    t.fit(Net(), data(), ckpt_path=first.checkpoint_callback.best_model_path)
    assert t.run_dir == tmp_path / "logs" / "lightning_logs" / "b"
    assert [row["step"] for row in rows_of(t.run_dir / "metrics.csv")] == ["4", "5", "6", "7"]


def test_a_loggers_directory_that_cannot_be_made_is_told_as_the_loggers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    t = trainer(tmp_path, logger=TensorBoardLogger(tmp_path / "file" / "logs", version=0))
    with pytest.raises(RunDirError) as caught:
        t.fit(Net(), data())
    where = tmp_path / "file" / "logs"
    assert str(caught.value) == (
        f"TensorBoardLogger(save_dir={str(where)!r}): the run directory {where}/lightning_logs/version_0 cannot be "
        "written: Not a directory; give a directory that you may write to"
    )


def test_a_logger_of_another_kind_has_its_place_by_name_and_version(tmp_path: Path) -> None:
    class Elsewhere(Recorder):
        save_dir, name, version = str(tmp_path / "logs"), "exp", 3

    t = trainer(tmp_path, logger=Elsewhere())  # type: ignore[arg-type]
    t.fit(Net(), data())
    assert files_in(tmp_path) == [
        f"logs/exp/version_3/{name}" for name in ("checkpoints/epoch=1-step=8.ckpt", "metrics.csv", "run.json")
    ]


# ---------------------------------------------------------------------- no logger


def test_without_a_logger_and_checkpoints_nothing_is_made(tmp_path: Path) -> None:
    t = trainer(tmp_path / "root", logger=False, enable_checkpointing=False)
    assert t.log_dir == str(tmp_path / "root")
    module = Net()
    t.fit(module, data(), data())
    t.validate(module, data(), verbose=False)
    assert t.log_dir == str(tmp_path / "root") and list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- what a logger is, and how it is called


def test_an_object_with_a_loggers_methods_is_a_logger(tmp_path: Path) -> None:
    class Tuned(Net):
        def __init__(self, lr: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()

    recorder = Recorder()
    t = trainer(tmp_path, logger=recorder, max_epochs=1)
    t.fit(Tuned(), data(), data())
    assert t.logger is recorder and t.loggers == [recorder]
    assert recorder.calls[0] == ("hyperparams", {"lr": 0.5})
    assert [(step, sorted(names)) for _, step, names in recorder.calls[1:]] == [
        *((step, ["epoch", "loss"]) for step in range(4)), (3, ["epoch", "val"]),
    ]  # fmt: skip
    assert len(rows_of(t.run_dir / "metrics.csv")) == 4


def test_methods_are_called_by_keyword_where_they_have_the_name_else_by_position(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    class ByKeyword(Recorder):
        def log_metrics(self, *, step: int, metrics: dict[str, float]) -> None:  # type: ignore[override]
            seen.append(("keyword", step, sorted(metrics)))

        def finalize(self, *, status: str) -> None:
            seen.append(("finalize", status))

    class ByPosition(Recorder):
        def log_metrics(self, values: dict[str, float], at: int) -> None:  # type: ignore[override]
            seen.append(("position", at, sorted(values)))

    class ByKwargs(Logger):
        def log_metrics(self, **kwargs: Any) -> None:  # type: ignore[override]
            seen.append(("kwargs", kwargs["step"], sorted(kwargs["metrics"])))

    class Mixed(Logger):
        def log_metrics(self, values: dict[str, float], step: int = 0) -> None:  # type: ignore[override]
            seen.append(("mixed", step, sorted(values)))

    loggers: list[Any] = [ByKeyword(), ByPosition(), ByKwargs(), Mixed()]
    trainer(tmp_path, logger=loggers, max_steps=1).fit(Net(), data())
    kinds = ("keyword", "position", "kwargs", "mixed")
    assert seen == [*((kind, 0, ["epoch", "loss"]) for kind in kinds), ("finalize", "success")]


def test_a_logger_that_changes_what_it_gets_changes_nothing_for_the_others(tmp_path: Path) -> None:
    class Takes(Recorder):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            metrics.clear()

    other = Recorder()
    trainer(tmp_path, logger=[Takes(), other], max_steps=1).fit(Net(), data())  # type: ignore[list-item]
    assert [sorted(values) for _, _, values in other.calls] == [["epoch", "loss"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wandb", "Trainer(logger='wandb'): expected a logger; write logger=WandbLogger(), from lightkit.loggers"),
        (
            "TensorBoardLogger",
            "Trainer(logger='TensorBoardLogger'): expected a logger; write logger=TensorBoardLogger(), from "
            "lightkit.loggers",
        ),
        (
            "wandbb",
            "Trainer(logger='wandbb'): expected a logger: CSVLogger(), MLFlowLogger(), TensorBoardLogger(), "
            "WandbLogger() of lightkit.loggers, a list of loggers, True or False; did you mean 'wandb'?",
        ),
        (
            "comet",
            "Trainer(logger='comet'): lightkit has no CometLogger; write a class with log_metrics(metrics, step) and "
            "log_hyperparams(params) that calls comet_ml, and give it to Trainer(logger=...)",
        ),
        (
            CSVLogger,
            "Trainer(logger=...): the class CSVLogger is not a logger; one is an object of a class of "
            "lightkit.loggers, or any other with the methods log_metrics and log_hyperparams",
        ),
        (
            3,
            "Trainer(logger=...): int is not a logger; one is an object of a class of lightkit.loggers, or any "
            "other with the methods log_metrics and log_hyperparams",
        ),
    ],
)
@pytest.mark.parametrize("wraps", [lambda item: item, lambda item: [item]])
def test_what_is_no_logger_is_refused_with_what_to_write(given: Any, message: str, wraps: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        lk.Trainer(logger=wraps(given), max_epochs=1)
    assert str(caught.value) == message


# ---------------------------------------------------------------------- what is logged


def test_a_metric_called_step_is_the_x_axis_and_is_taken_out(tmp_path: Path) -> None:
    class ByEpoch(Net):
        def on_train_epoch_end(self) -> None:
            self.log_dict({"step": float(self.current_epoch), "mean": 1.0})

    recorder = Recorder()
    t = trainer(tmp_path, logger=recorder)
    t.fit(ByEpoch(), data())
    found = [(step, values) for _, step, values in recorder.calls if "mean" in values]
    assert found == [(0, {"mean": 1.0}), (1, {"mean": 1.0})]
    assert [row["step"] for row in rows_of(t.run_dir / "metrics.csv") if "mean" in row] == ["0", "1"]
    assert float(t.logged_metrics["step"]) == 1.0


def test_logged_metrics_are_0_dim_tensors_of_what_the_loggers_got(tmp_path: Path) -> None:
    recorder = Recorder()
    t = trainer(tmp_path, logger=recorder)
    t.fit(Net(), data(), data())
    found = t.logged_metrics
    assert sorted(found) == ["loss", "val"]
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in found.values())
    got = {name: value for _, _, values in recorder.calls for name, value in values.items()}
    assert {name: value.item() for name, value in found.items()} == {name: got[name] for name in found}


def test_the_hp_metric_goes_through_log_metrics(tmp_path: Path) -> None:
    class Tuned(Net):
        def __init__(self, lr: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Watches(TensorBoardLogger):
        seen: list[tuple[dict[str, float], int | None]] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.seen.append((dict(metrics), step))
            super().log_metrics(metrics, step)

    logger = Watches(tmp_path, version=0)
    trainer(tmp_path, logger=logger, max_steps=1).fit(Tuned(), data())
    assert logger.seen[0] == ({"hp_metric": -1.0}, 0)
    assert [names for names, _ in logger.seen[1:]] == [{"loss": 0.5, "epoch": 0}]


@pytest.mark.parametrize("default", [True, False])
def test_metrics_given_with_the_hyperparameters_stand_beside_them_and_once(tmp_path: Path, default: bool) -> None:
    class Tuned(Net):
        def __init__(self, lr: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()

        def on_train_start(self) -> None:
            self.logger.log_hyperparams(self.hparams, {"hp/a": 0, "hp/b": 0})

        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("hp/a", 1.0)

    def fit(**options: Any) -> lk.Trainer:
        logger = TensorBoardLogger(tmp_path, version=0, default_hp_metric=default)
        t = trainer(tmp_path, logger=logger, **options)
        t.fit(Tuned(), data(), data(), ckpt_path=path)
        return t

    path: str | None = None
    path = fit(max_epochs=1).checkpoint_callback.best_model_path
    fit(max_epochs=2)
    found, names = scalars_of(tmp_path / "lightning_logs" / "version_0")
    assert found["hp/a"] == [(0, 0.0), (3, 1.0), (7, 1.0)] and found["hp/b"] == [(0, 0.0)]
    assert ("hp_metric" in found) is default
    assert names == (["hp_metric"] if default else ["hp/a", "hp/b"])  # TensorBoard reads the first list alone


def scalars_of(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], list[str]]:
    """The curves, and which of them TensorBoard's tab of hyperparameters shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    content = events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.EXPERIMENT_TAG]
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return curves, sorted(info.name.tag for info in shown)


def test_hyperparameters_are_logged_by_the_user_alone_where_that_is_asked_for(tmp_path: Path) -> None:
    class Tuned(Net):
        def __init__(self, lr: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()

    for asked in (True, False):
        recorder = Recorder()
        trainer(tmp_path, logger=recorder, enable_autolog_hparams=asked, max_steps=1).fit(Tuned(), data())
        assert (("hyperparams", {"lr": 0.5}) in recorder.calls) is asked
    with pytest.raises(ConfigError) as caught:
        lk.Trainer(enable_autolog_hparams="no", max_epochs=1)  # type: ignore[arg-type]
    assert str(caught.value) == "Trainer(enable_autolog_hparams='no'): expected one of True, False"


def test_a_bar_shows_no_version_of_a_logger_that_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightkit.callbacks import LineProgress

    bar = LineProgress()
    t = trainer(tmp_path, logger=Recorder(), callbacks=[bar], enable_progress_bar=True, max_epochs=1)
    t.fit(Net(), data())
    assert "v_num" not in capsys.readouterr().out


def test_a_barebones_run_imports_no_logger_but_the_base(repository: Path) -> None:
    code = (
        "import sys, torch, lightkit as lk\n"
        "class Net(lk.LightModule):\n"
        "    def training_step(self, batch, batch_idx): return None\n"
        "    def configure_optimizers(self): return None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "lk.Trainer(barebones=True, max_epochs=1, accelerator='cpu').fit(Net(), [1, 2])\n"
        "print(sorted(n for n in sys.modules if n.startswith(('lightkit.loggers.', 'lightkit.records'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['lightkit.loggers.base']"
