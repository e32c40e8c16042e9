"""Every command in one table: what it makes ready, what it then does, and what its help says.

What a command needs is imported when it is called: `lightkit list` needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lightkit.cli.copying import Copy, plan_copy, write_copy
from lightkit.cli.documents import listed
from lightkit.cli.shipped import describe, shipped_configs
from lightkit.cli.summary import print_summary
from lightkit.errors import ConfigError, RunDirError

if TYPE_CHECKING:
    from lightkit.cli.job import Job
    from lightkit.cli.raw_input import RawJob

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Command(Generic[Prepared]):
    """`prepare` reads the arguments, and what it refuses is wrong input; `run` takes what it made and does the work."""

    description: str
    prepare: Callable[[list[str]], Prepared]
    run: Callable[[Prepared], None]


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

    from lightkit.cli.raw_input import RawJob, run_raw

    if isinstance(job, RawJob):
        run_raw(job)
        return
    keep = job.flag("return_predictions")
    predictions = job.trainer.predict(job.model, datamodule=job.data, return_predictions=keep, ckpt_path=job.ckpt_path)
    if not keep or predictions is None or not job.trainer.is_global_zero:
        return
    path = Path(job.trainer.run_dir) / "predictions.pt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(predictions, path)
    except OSError as error:
        raise RunDirError(f"{path}: the predictions cannot be written: {error}") from error
    print(f"predictions: {path}")


def _prepare_list(arguments: list[str]) -> dict[str, Path]:
    if arguments:
        raise ConfigError(f"lightkit list takes no arguments, got {' '.join(arguments)!r}")
    return shipped_configs()


def _list(configs: dict[str, Path]) -> None:
    """Print names and descriptions as two columns."""
    width = max(map(len, configs), default=0)
    for name, path in configs.items():
        print(f"{name:<{width}}  {describe(path)}".rstrip())


def _prepare_check(arguments: list[str]) -> list[str]:
    """Do the check; raises ConfigError that lists every problem."""
    from lightkit.cli.dry_run import check

    findings = check(arguments)
    if findings.problems:
        config = arguments[0] if arguments and not arguments[0].startswith("-") else ""
        raise ConfigError(listed(config, findings.problems))
    return findings.lines


def _check(lines: list[str]) -> None:
    """Say what was looked at."""
    print("\n".join([*lines, "no problems; nothing was written"]))


def _prepare_copy(arguments: list[str]) -> Copy:
    """Read the config and its recipe, write the copies; nothing is ever overwritten."""
    if len(arguments) != 2 or any(argument.startswith("-") for argument in arguments):
        raise ConfigError(
            f"lightkit copy takes CONFIG and FOLDER, such as lightkit copy vision/digits my_project, "
            f"got {' '.join(arguments)!r}"
        )
    copy = plan_copy(arguments[0], Path(arguments[1]).expanduser())
    write_copy(copy)
    return copy


def _copy(copy: Copy) -> None:
    """Say what is there and how to start it."""
    for name in copy.files:
        print(copy.folder / name)
    print(f"start it: cd {copy.folder} && lightkit fit {copy.config}")


JOB_COMMANDS: dict[str, Command[Any]] = {
    "fit": Command("Train a model", partial(_prepare_job, "fit"), _fit),
    "validate": Command("Run the validation loop once", partial(_prepare_job, "validate"), _validate),
    "test": Command("Run the test loop once", partial(_prepare_job, "test"), _test),
    "predict": Command("Predict and keep the outputs", _prepare_predict, _predict),
}
COMMANDS: dict[str, Command[Any]] = {
    **JOB_COMMANDS,
    "list": Command("Show the shipped configs", _prepare_list, _list),
    "check": Command("Build everything and run two steps", _prepare_check, _check),
    "copy": Command("Write a shipped job as files of your own", _prepare_copy, _copy),
}
