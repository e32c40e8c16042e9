"""Every command in one table: what it makes ready, what it then does, and what its help says.

What a command needs is imported when it is called: `lightkit list` needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightkit.cli.shipped import describe, shipped_configs
from lightkit.errors import ConfigError, RunDirError

if TYPE_CHECKING:
    from lightkit.cli.exporting import ExportJob
    from lightkit.cli.job import Job
    from lightkit.cli.raw_input import RawJob
    from lightkit.trainer import Trainer

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


class Command(NamedTuple):
    """`prepare` reads the arguments, and what it refuses is wrong input; `run` takes what it made and does the work."""

    description: str
    prepare: Callable[[list[str]], Any]
    run: Callable[[Any], None]


def _prepare_job(command: str, arguments: list[str]) -> Job:
    from lightkit.cli.job import prepare_job

    return prepare_job(command, arguments)


def _fit(job: Job) -> None:
    """Train, with `--test` test the best checkpoint too; then say where everything is."""
    job.trainer.fit(job.model, datamodule=job.data, ckpt_path=job.ckpt_path)
    metrics: dict[str, float] = {}
    if job.values.get("test"):
        # without arguments the trainer tests what it just fitted, its best checkpoint where one was monitored
        for found in job.trainer.test(datamodule=job.data):
            metrics.update(found)
    print_summary(job.trainer, metrics)


def print_summary(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Print the metrics and the paths of what there is, on the first process only."""
    if not trainer.is_global_zero:
        return
    rows = [(readable(name), f"{value:.4f}") for name, value in sorted(metrics.items())]
    if not trainer.fast_dev_run:
        rows += found_in(trainer.run_dir)
    width = max((len(name) for name, _ in rows), default=0) + 1
    for name, text in rows:
        print(f"{name + ':':<{width}} {text}")


def readable(metric: str) -> str:
    """`test_acc` -> `test accuracy`."""
    words = metric.replace("/", " ").replace("_", " ").split()
    return " ".join("accuracy" if word == "acc" else word for word in words)


def found_in(run_dir: Path) -> list[tuple[str, str]]:
    """Name and path of each thing worth looking at in a run directory."""
    curves = [f"tensorboard --logdir {run_dir}"] if any(run_dir.glob("events.out.tfevents.*")) else []
    plots = (path for path in (run_dir / "plots").rglob("*") if path.suffix in PLOT_SUFFIXES)
    found = {
        "run directory": [run_dir], "metrics": run_dir.glob("metrics.csv"), "curves": curves,
        "checkpoint": (run_dir / "checkpoints").glob("*.ckpt"), "plot": plots,
    }  # fmt: skip
    return [(name, text) for name, items in found.items() for text in sorted(map(str, items))]


def _validate(job: Job) -> None:
    """Validate with the weights as built, or with those of `ckpt_path`."""
    job.trainer.validate(job.model, ckpt_path=job.ckpt_path, verbose=job.flag("verbose"), datamodule=job.data)


def _test(job: Job) -> None:
    """Test with the weights as built, or with those of `ckpt_path`."""
    job.trainer.test(job.model, ckpt_path=job.ckpt_path, verbose=job.flag("verbose"), datamodule=job.data)
    print_summary(job.trainer, {})


def _prepare_predict(arguments: list[str]) -> Job | RawJob:
    from lightkit.cli.raw_input import is_raw, prepare_raw

    return prepare_raw(arguments) if is_raw(arguments) else _prepare_job("predict", arguments)


def _predict(job: Job | RawJob) -> None:
    """Predict; the list of what predict_step returned for each batch is saved as `predictions.pt`."""
    import torch

    from lightkit.checkpoint.places import local_file
    from lightkit.cli.raw_input import RawJob, run_raw

    if isinstance(job, RawJob):
        run_raw(job)
        return
    keep = job.flag("return_predictions")
    predictions = job.trainer.predict(job.model, datamodule=job.data, return_predictions=keep, ckpt_path=job.ckpt_path)
    if not keep or predictions is None or not job.trainer.is_global_zero:
        return
    path = job.trainer.run_dir / "predictions.pt"
    try:
        with local_file(path) as file:
            torch.save(predictions, file)
    except OSError as error:
        raise RunDirError(f"{path}: the predictions cannot be written: {error}") from error
    print(f"predictions: {path}")


def _prepare_export(arguments: list[str]) -> ExportJob:
    from lightkit.cli.exporting import prepare_export

    return prepare_export(arguments)


def _export(job: ExportJob) -> None:
    from lightkit.cli.exporting import run_export

    run_export(job)


def _list(arguments: list[str]) -> list[str]:
    """Names and descriptions as two columns."""
    if arguments:
        raise ConfigError(f"lightkit list takes no arguments, got {' '.join(arguments)!r}")
    configs = shipped_configs()
    width = max(map(len, configs), default=0)
    return [f"{name:<{width}}  {describe(path)}".rstrip() for name, path in configs.items()]


def _check(arguments: list[str]) -> list[str]:
    from lightkit.cli.dry_run import check

    return check(arguments)


def _copy(arguments: list[str]) -> list[str]:
    if len(arguments) != 2 or any(argument.startswith("-") for argument in arguments):
        raise ConfigError(
            f"lightkit copy takes CONFIG and FOLDER, such as lightkit copy vision/digits my_project, "
            f"got {' '.join(arguments)!r}"
        )
    from lightkit.cli.copying import copy_config

    return copy_config(arguments[0], Path(arguments[1]).expanduser())


def _say(lines: list[str]) -> None:
    for line in lines:
        print(line)


JOB_COMMANDS: dict[str, Command] = {
    "fit": Command("Train a model", partial(_prepare_job, "fit"), _fit),
    "validate": Command("Run the validation loop once", partial(_prepare_job, "validate"), _validate),
    "test": Command("Run the test loop once", partial(_prepare_job, "test"), _test),
    "predict": Command("Predict and keep the outputs", _prepare_predict, _predict),
}
COMMANDS: dict[str, Command] = {
    **JOB_COMMANDS,
    "list": Command("Show the shipped configs", _list, _say),
    "check": Command("Build everything and run two steps", _check, _say),
    "export": Command("Write a checkpoint as ONNX, TorchScript, pt2 or safetensors", _prepare_export, _export),
    "copy": Command("Write a shipped job as files of your own", _copy, _say),
}
