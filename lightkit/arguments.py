"""Checks and conversions of Trainer's arguments; every error says the argument, what arrived and what to write."""

from __future__ import annotations

import math
import os
import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from lightkit.callbacks.timer import parse_duration
from lightkit.errors import ConfigError, did_you_mean
from lightkit.loggers.dummy import DummyLogger

# Lightning's arguments that were renamed or removed, and what to write now
REMOVED = {
    "gpus": "accelerator='gpu', devices={value}",
    "num_processes": "accelerator='cpu', devices={value}",
    "tpu_cores": "nothing: lightkit runs on CPU, CUDA and MPS",
    "ipus": "nothing: lightkit runs on CPU, CUDA and MPS",
    "auto_select_gpus": "devices='auto'",
    "distributed_backend": "strategy={value}",
    "resume_from_checkpoint": "trainer.fit(model, ckpt_path={value})",
    "checkpoint_callback": "enable_checkpointing={value}",
    "early_stop_callback": "callbacks=[EarlyStopping(monitor='val_loss')]",
    "weights_summary": "enable_model_summary=True, or callbacks=[ModelSummary(max_depth=...)]",
    "weights_save_path": "default_root_dir={value}",
    "default_save_path": "default_root_dir={value}",
    "progress_bar_refresh_rate": "enable_progress_bar={is_on}",
    "process_position": "nothing: the progress bar finds its place",
    "row_log_interval": "log_every_n_steps={value}",
    "log_save_interval": "CSVLogger(flush_logs_every_n_steps={value})",
    "flush_logs_every_n_steps": "CSVLogger(flush_logs_every_n_steps={value})",
    "train_percent_check": "limit_train_batches={value}",
    "val_percent_check": "limit_val_batches={value}",
    "test_percent_check": "limit_test_batches={value}",
    "max_nb_epochs": "max_epochs={value}",
    "min_nb_epochs": "min_epochs={value}",
    "nb_sanity_val_steps": "num_sanity_val_steps={value}",
    "reload_dataloaders_every_epoch": "reload_dataloaders_every_n_epochs={is_on_number}",
    "stochastic_weight_avg": "a callback",
    "terminate_on_nan": "nan_check='step'",
    "track_grad_norm": "on_before_optimizer_step: self.log_dict(grad_norm(self, norm_type={value}))",
    "use_amp": "precision='16-mixed'",
    "amp_level": "precision='16-mixed'",
    "amp_backend": "precision='16-mixed'",
    "log_gpu_memory": "a callback that logs torch.cuda.memory_allocated()",
    "auto_lr_find": "a learning rate of your own",
    "auto_scale_batch_size": "a batch size of your own",
    "replace_sampler_ddp": "use_distributed_sampler={value}",
    "truncated_bptt_steps": "a loop over the sequence in training_step",
    "prepare_data_per_node": "nothing: prepare_data runs once",
    "multiple_trainloader_mode": "one training loader",
}

PLANNED = ("plugins", "model_registry", "resume")


def refuse_unknown(arguments: dict[str, Any], known: list[str]) -> None:
    """Raise ConfigError for arguments that Trainer does not have; says what to write now, all at once."""
    problems = []
    for name, value in arguments.items():
        if name in REMOVED:
            now = REMOVED[name].format(value=repr(value), is_on=bool(value), is_on_number=int(bool(value)))
            verb = "" if now.startswith(("a ", "nothing", "one ")) else "write "
            problems.append(f"Trainer({name}={value!r}): this argument is gone; {verb}{now}")
        elif name in PLANNED:
            now = "; for AsyncCheckpointIO write async_checkpoint=True" if name == "plugins" else "; leave it out"
            problems.append(f"Trainer({name}={value!r}): not in this version of lightkit{now}")
        else:
            problems.append(f"Trainer({name}={value!r}): no such argument{did_you_mean(name, known)}")
    if problems:
        raise ConfigError("\n".join(problems))


def check_count(
    name: str, value: Any, *, least: int = 0, may_be_none: bool = False, may_be_minus_one: bool = False
) -> None:
    """Raise ConfigError where a count is not a whole number of at least `least`."""
    if (value is None and may_be_none) or (value == -1 and may_be_minus_one and not isinstance(value, bool)):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        extra = " or -1 for no limit" if may_be_minus_one else ""
        raise ConfigError(f"Trainer({name}={value!r}): expected a whole number of at least {least}{extra}")


def check_limit(name: str, value: Any) -> None:
    """Raise ConfigError where a limit is neither a count of batches nor a fraction."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_fraction = isinstance(value, float) and 0.0 <= value <= 1.0
    if not (is_count or is_fraction):
        raise ConfigError(
            f"Trainer({name}={value!r}): expected a count of batches (an int) or a fraction between 0.0 and 1.0"
        )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError where a value is none of the choices."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ConfigError(
            f"Trainer({name}={value!r}): expected one of {listed}{did_you_mean(str(value), [str(c) for c in choices])}"
        )


def interval_seconds(value: Any) -> float | None:
    """Seconds in what a Timer takes: "90s", "10min", "DD:HH:MM:SS", a timedelta, a dict of its arguments; else None."""
    try:
        return parse_duration(value).total_seconds()
    except ConfigError:
        return None


@dataclass(frozen=True)
class ValidationInterval:
    """When validation runs inside fit: a share of the epoch, or a count of batches, steps, epochs or seconds."""

    fraction: float | None = None
    batches: int | None = None
    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


def parse_validation_interval(value: Any) -> ValidationInterval:
    """Read Trainer(val_check_interval=...).

    Raises:
        ConfigError: none of the documented forms.
    """
    if value is None:
        return ValidationInterval(fraction=1.0)
    if isinstance(value, float) and 0.0 < value <= 1.0:
        return ValidationInterval(fraction=value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return ValidationInterval(batches=value)
    if (
        isinstance(value, str)
        and (match := re.fullmatch(r"(\d+)\s*(step|epoch)s?", value.strip()))
        and int(match[1]) > 0
    ):
        count = int(match[1])
        return ValidationInterval(steps=count) if match[2] == "step" else ValidationInterval(epochs=count)
    seconds = interval_seconds(value)
    if seconds:
        return ValidationInterval(seconds=seconds)
    raise ConfigError(
        f"Trainer(val_check_interval={value!r}): expected a share of the epoch (0.0 to 1.0], a count of batches, or a "
        "text with a unit: '100step', '1epoch', '10min'"
    )


def batches_between(
    interval: ValidationInterval, num_batches: float, accumulate: int, check_every_epoch: bool
) -> float:
    """Training batches between two validations; inf: only at the end of epochs.

    Raises:
        ConfigError: more batches than an epoch has, where the count begins anew with each epoch.
    """
    if interval.seconds is not None:
        return 1
    if interval.epochs is not None:
        return num_batches
    count, unit, available = interval.batches, "batches", num_batches
    if interval.steps is not None:
        count, unit, available = interval.steps, "steps", -(-num_batches // accumulate)
    if count is not None:
        if check_every_epoch and count > available > 0:
            value = count if interval.steps is None else f"{count}step"
            raise ConfigError(
                f"Trainer(val_check_interval={value!r}): an epoch has only {int(available)} {unit}; use at most that, "
                "or check_val_every_n_epoch=None to count over epochs"
            )
        return count * (accumulate if interval.steps is not None else 1)
    fraction = interval.fraction or 1.0
    if num_batches == math.inf:
        if fraction != 1.0:
            raise ConfigError(
                f"Trainer(val_check_interval={fraction}): the training loader has no length, so no share of it; "
                "give a count of batches"
            )
        return math.inf
    return max(1, int(num_batches * fraction))


@dataclass(frozen=True)
class TrainerState:
    """What a trainer does: `fn` fit, validate, test or predict; its running `stage`; its `status`."""

    fn: str | None
    stage: str | None
    status: str


def check_all(given: dict[str, Any]) -> None:
    """Raise ConfigError for the first argument with a wrong value."""
    check_count("max_epochs", given["max_epochs"], may_be_none=True, may_be_minus_one=True)
    check_count("min_epochs", given["min_epochs"], may_be_none=True)
    check_count("max_steps", given["max_steps"], may_be_minus_one=True)
    check_count("min_steps", given["min_steps"], may_be_none=True)
    check_count("num_sanity_val_steps", given["num_sanity_val_steps"], may_be_none=True, may_be_minus_one=True)
    check_count("log_every_n_steps", given["log_every_n_steps"], may_be_none=True)
    check_count("check_val_every_n_epoch", given["check_val_every_n_epoch"], least=1, may_be_none=True)
    check_count("accumulate_grad_batches", given["accumulate_grad_batches"], least=1)
    check_count("reload_dataloaders_every_n_epochs", given["reload_dataloaders_every_n_epochs"])
    for stage in ("train", "val", "test", "predict"):
        name = f"limit_{stage}_batches"
        if given[name] is not None:
            check_limit(name, given[name])
    check_limit("overfit_batches", given["overfit_batches"])
    if given["gradient_clip_algorithm"] is not None:
        check_choice("gradient_clip_algorithm", given["gradient_clip_algorithm"], ("norm", "value"))
    clip = given["gradient_clip_val"]
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, (int, float)) or clip < 0):
        raise ConfigError(f"Trainer(gradient_clip_val={clip!r}): expected a number of at least 0, or None")
    check_choice("async_checkpoint", given["async_checkpoint"], (True, False))
    check_choice("nan_check", given["nan_check"], ("read", "step", "off"))
    if given["num_nodes"] != 1:
        raise ConfigError(f"Trainer(num_nodes={given['num_nodes']!r}): this version trains on one machine; use 1")
    dev = given["fast_dev_run"]
    if not isinstance(dev, bool) and (not isinstance(dev, int) or dev < 0):
        raise ConfigError(f"Trainer(fast_dev_run={dev!r}): expected True, False or a count of batches")
    if given["max_time"] is not None and interval_seconds(given["max_time"]) is None:
        raise ConfigError(
            f"Trainer(max_time={given['max_time']!r}): expected '00:12:00:00' (days:hours:minutes:seconds), '10min', "
            "a timedelta or a dict of its arguments"
        )


def apply_dev_run(given: dict[str, Any]) -> None:
    """Change the arguments to what `fast_dev_run` means: n batches of everything, nothing written."""
    count = int(given["fast_dev_run"])
    if count == 0:
        return
    given.update(
        max_epochs=1, max_steps=count, num_sanity_val_steps=0, val_check_interval=1.0, check_val_every_n_epoch=1,
        limit_train_batches=count, limit_val_batches=count, limit_test_batches=count, limit_predict_batches=count,
        logger=DummyLogger() if given["logger"] is not False else False, min_epochs=None, min_steps=None,
    )  # fmt: skip


def apply_barebones(given: dict[str, Any]) -> None:
    """Change the arguments to what `barebones` means: nothing but the loop; a contradiction is an error."""
    if not given["barebones"]:
        return
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps")
    for name in (*names, "log_every_n_steps", "fast_dev_run", "detect_anomaly", "profiler"):
        if given[name]:
            raise ConfigError(
                f"Trainer(barebones=True, {name}={given[name]!r}): barebones turns this off; leave one of them out"
            )
    given.update(dict.fromkeys(names[:-1], False), num_sanity_val_steps=0, log_every_n_steps=0, nan_check="off")


def settle_max_epochs(given: dict[str, Any]) -> int | None:
    """max_epochs as the loop wants it: None or -1 for no limit; 1000 where nothing limits the run, with a warning."""
    if given["max_epochs"] is None and given["max_steps"] == -1 and given["max_time"] is None:
        warnings.warn(
            "Trainer(): nothing limits the training; max_epochs=1000 is used, -1 means no limit", stacklevel=4
        )
        return 1000
    return given["max_epochs"]


def check_callbacks(given: dict[str, Any], *, has_checkpoint: bool, has_bar: bool) -> None:
    """Raise ConfigError where a callback is passed that another argument turns off."""
    for is_there, name, kind in (
        (has_checkpoint, "enable_checkpointing", "a callback that saves checkpoints"),
        (has_bar, "enable_progress_bar", "a progress bar"),
    ):
        if is_there and given[name] is False:
            raise ConfigError(f"Trainer({name}=False): callbacks has {kind}; leave one of them out")


def apply_torch_switches(deterministic: bool | str | None, benchmark: bool | None, accelerator: str) -> None:
    """Set torch's own switches; None leaves them as they are."""
    if deterministic is not None:
        torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
        if deterministic and accelerator == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    if benchmark is not None or deterministic:
        torch.backends.cudnn.benchmark = bool(benchmark) and not deterministic
