"""Every argument of the Trainer: typed, checked once; every error says the argument, what arrived and what to write.

`Settings` is what was asked for and never changes. `Controls` are the few of them that the Trainer's public setters may
change, also while a run goes on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.callbacks.base import Callback
    from lightkit.checkpoint.io_plugins import CheckpointIO
    from lightkit.devices.accelerators import Accelerator
    from lightkit.devices.precision import Precision
    from lightkit.devices.strategies.base import Strategy
    from lightkit.loggers.base import Logger
    from lightkit.profilers.base import Profiler

    Plugins = CheckpointIO | Precision | Sequence[CheckpointIO | Precision] | None
else:
    Plugins = Any  # those who read annotations in a run need not load what is hardly ever given

Limit = int | float | None
NanCheck = Literal["read", "step", "off"]
OnLogError = Literal["warn", "raise"]
ClipAlgorithm = Literal["norm", "value"]


def check_count(
    name: str, value: object, *, least: int = 0, may_be_none: bool = False, may_be_minus_one: bool = False
) -> None:
    """Raise ConfigError where a count is not a whole number of at least `least`."""
    if (value is None and may_be_none) or (value == -1 and may_be_minus_one and not isinstance(value, bool)):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        extra = " or -1 for no limit" if may_be_minus_one else ""
        raise ConfigError(f"Trainer({name}={value!r}): expected a whole number of at least {least}{extra}")


def check_limit(name: str, value: object) -> None:
    """Raise ConfigError where a limit is neither a count of batches nor a fraction."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_fraction = isinstance(value, float) and 0.0 <= value <= 1.0
    if not (is_count or is_fraction):
        raise ConfigError(
            f"Trainer({name}={value!r}): expected a count of batches (an int) or a fraction between 0.0 and 1.0"
        )


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ConfigError where a value is none of the choices."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ConfigError(
            f"Trainer({name}={value!r}): expected one of {listed}{did_you_mean(str(value), [str(c) for c in choices])}"
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a Trainer was asked for; every field is one of its arguments, see there.

    Raises:
        ConfigError: the first argument with a wrong value.
    """

    accelerator: str | Accelerator = "auto"
    strategy: str | Strategy = "auto"
    devices: list[int] | str | int = "auto"
    num_nodes: int = 1
    precision: str | int | Precision | None = None
    logger: Logger | list[Logger] | bool | None = None
    callbacks: list[Callback] | Callback | None = None
    fast_dev_run: int | bool = False
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | timedelta | dict[str, int] | None = None
    limit_train_batches: Limit = None
    limit_val_batches: Limit = None
    limit_test_batches: Limit = None
    limit_predict_batches: Limit = None
    overfit_batches: int | float = 0.0
    val_check_interval: int | float | str | timedelta | None = None
    check_val_every_n_epoch: int | str | None = 1
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | str | None = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: ClipAlgorithm | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int | str = 0
    default_root_dir: str | Path | None = None
    seed: int | None = None
    run_dir: str | Path | None = None
    run_name: str | None = None
    nan_check: NanCheck = "read"
    enable_autolog_hparams: bool = True
    on_log_error: OnLogError = "warn"
    profiler: Profiler | str | None = None
    plugins: Plugins = None
    async_checkpoint: bool = False
    channels_last: bool = False
    optimizer_kernel: Literal["fused", "foreach"] | None = None
    tf32: bool | None = None
    compile: bool | str | dict[str, Any] | None = None
    cuda_graph: bool = False
    overlap_transfer: bool = False
    resume: Literal["auto"] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check(field.name, getattr(self, field.name))

    @classmethod
    def names(cls) -> list[str]:
        """The arguments that there are."""
        return [field.name for field in fields(cls)]

    def in_effect(self) -> Settings:
        """These settings with what `fast_dev_run` (n batches of everything) and `barebones` (the loop alone) mean."""
        asked, count = self, int(self.fast_dev_run)
        if count > 0:
            asked = replace(
                asked, max_epochs=1, max_steps=count, num_sanity_val_steps=0, val_check_interval=1.0,
                check_val_every_n_epoch=1, limit_train_batches=count, limit_val_batches=count,
                limit_test_batches=count, limit_predict_batches=count, min_epochs=None, min_steps=None,
            )  # fmt: skip
        if not asked.barebones:
            return asked
        for name in (
            "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps",
            "log_every_n_steps", "fast_dev_run", "detect_anomaly", "profiler",
        ):  # fmt: skip
            if value := getattr(asked, name):
                raise ConfigError(
                    f"Trainer(barebones=True, {name}={value!r}): barebones turns this off; leave one of them out"
                )
        return replace(
            asked, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, log_every_n_steps=0, nan_check="off",
        )  # fmt: skip


_COUNTS: dict[str, dict[str, Any]] = {
    "max_epochs": {"may_be_none": True, "may_be_minus_one": True}, "min_epochs": {"may_be_none": True},
    "max_steps": {"may_be_minus_one": True}, "min_steps": {"may_be_none": True},
    "num_sanity_val_steps": {"may_be_none": True, "may_be_minus_one": True},
    "log_every_n_steps": {"may_be_none": True}, "check_val_every_n_epoch": {"least": 1, "may_be_none": True},
    "accumulate_grad_batches": {"least": 1}, "reload_dataloaders_every_n_epochs": {},
}  # fmt: skip
_CHOICES: dict[str, tuple[object, ...]] = {
    "async_checkpoint": (True, False), "enable_autolog_hparams": (True, False),
    "nan_check": ("read", "step", "off"),
    "on_log_error": ("warn", "raise"),
    "resume": ("auto", None),
}


def check(name: str, value: object) -> None:
    """Raise ConfigError where the argument of that name does not take the value; parts check what is theirs."""
    if name in _COUNTS:
        check_count(name, _settled(name, value) if isinstance(value, str) else value, **_COUNTS[name])
    elif name in _CHOICES:
        check_choice(name, value, _CHOICES[name])
    elif name == "overfit_batches" or (name.startswith("limit_") and value is not None):
        check_limit(name, value)
    elif name == "gradient_clip_algorithm" and value is not None:
        check_choice(name, value, ("norm", "value"))
    elif name == "gradient_clip_val" and value is not None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise ConfigError(f"Trainer(gradient_clip_val={value!r}): expected a number of at least 0, or None")
    elif name == "num_nodes" and value != 1:
        raise ConfigError(f"Trainer(num_nodes={value!r}): this version trains on one machine; use 1")
    elif name == "fast_dev_run" and not isinstance(value, bool):
        if not isinstance(value, int) or value < 0:
            raise ConfigError(f"Trainer(fast_dev_run={value!r}): expected True, False or a count of batches")
    elif name == "max_time" and value is not None:
        from lightkit.intervals import check_max_time

        check_max_time(value)


def as_list(given: Any) -> list[Any]:
    """One or several in a list; Hydra's sequences are none of Python's lists."""
    is_one = isinstance(given, str) or not isinstance(given, Sequence)
    return [] if given is None else [given] if is_one else list(given)


class Controls:
    """The Trainer as its loops know it: what was asked for, and may be set anew at any time where it says so.

    A value is checked as the argument of its name is.

    Raises:
        ConfigError: a wrong value, or one that cannot be changed any more.
    """

    def __init__(self, asked: Settings):
        self.stop_signal = 0  # the signal that asked for the end; 0: none did
        self.may_end = False  # it did, or `should_stop` is set: the loop looks closer
        # at any time
        self.should_stop = False  # the fit ends as soon as min_epochs and min_steps are reached
        self.min_epochs, self.min_steps = asked.min_epochs, asked.min_steps
        self.log_every_n_steps: int = 50  # 0: never
        if asked.log_every_n_steps is not None:
            self.log_every_n_steps = _settled("log_every_n_steps", asked.log_every_n_steps)
        # during a fit from the next epoch on
        self.max_epochs = asked.max_epochs  # None or -1: no limit
        if asked.max_epochs is None and asked.max_steps == -1 and asked.max_time is None:
            self.max_epochs = 1000
            warnings.warn(
                "Trainer(): nothing limits the training; max_epochs=1000 is used, -1 means no limit", stacklevel=3
            )
        self.max_steps = asked.max_steps  # -1: no limit
        self.accumulate_grad_batches = asked.accumulate_grad_batches
        self.gradient_clip_val = asked.gradient_clip_val
        self.takes_steps = True  # False: training steps run, no weight changes
        # when the loaders are asked for next
        self.limit_train_batches: int | float = _settled("limit_train_batches", asked.limit_train_batches)
        self.limit_val_batches: int | float = _settled("limit_val_batches", asked.limit_val_batches)
        self.limit_test_batches: int | float = _settled("limit_test_batches", asked.limit_test_batches)
        self.limit_predict_batches: int | float = _settled("limit_predict_batches", asked.limit_predict_batches)
        self.check_val_every_n_epoch: int | None = _settled("check_val_every_n_epoch", asked.check_val_every_n_epoch)
        # from the next fit on; inf: all of them
        self.num_sanity_val_steps: float = _settled("num_sanity_val_steps", asked.num_sanity_val_steps)
        if asked.overfit_batches:
            self.limit_train_batches = self.limit_val_batches = asked.overfit_batches
            self.num_sanity_val_steps = 0
        # from the next epoch, evaluation or fit on
        self.nan_check, self.detect_anomaly = asked.nan_check, asked.detect_anomaly
        self.inference_mode = asked.inference_mode
        self.gradient_clip_algorithm: ClipAlgorithm = asked.gradient_clip_algorithm or "norm"
        self.reload_dataloaders_every_n_epochs: int = _settled(
            "reload_dataloaders_every_n_epochs", asked.reload_dataloaders_every_n_epochs
        )
        # never: another Trainer is to be made
        self.fast_dev_run, self.barebones = asked.fast_dev_run, asked.barebones
        self.overfit_batches = asked.overfit_batches
        self.val_check_interval: int | float | str | timedelta = (
            1.0 if asked.val_check_interval is None else asked.val_check_interval
        )
        self.num_nodes, self.use_distributed_sampler = asked.num_nodes, asked.use_distributed_sampler

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self) or name in _ARGUMENTS_ALONE:
            if name in _FIXED or name in _ARGUMENTS_ALONE:
                raise ConfigError(
                    f"trainer.{name} = {value!r}: what a Trainer was made with; make another, Trainer({name}=...)"
                )
            check(name, value)
        super().__setattr__(name, _settled(name, value))
        if name == "should_stop":
            super().__setattr__("may_end", bool(value) or self.stop_signal != 0)

    def stop_by(self, number: int) -> None:
        """A signal asks for the end: of a fit before its next step, of an evaluation before its next batch."""
        self.stop_signal, self.may_end = number, True

    def forget_signal(self) -> None:
        """Another run begins."""
        self.stop_signal, self.may_end = 0, self.should_stop

    def take(self, name: str, value: object) -> None:
        """Set what has this name, as `trainer.<name> = value` does."""
        setattr(self, name, value)

    @property
    def log_interval(self) -> float:
        """Steps between two readings of what was logged; inf: never."""
        return self.log_every_n_steps or math.inf


_FIXED = frozenset(
    "fast_dev_run barebones val_check_interval overfit_batches num_nodes use_distributed_sampler settings version "
    "accelerator devices strategy precision compute profiler num_devices is_global_zero world_size global_rank "
    "local_rank default_root_dir".split()
)
# What the Trainer does not keep: set on it, they would have no effect.
_ARGUMENTS_ALONE = frozenset(
    "enable_checkpointing enable_progress_bar enable_model_summary max_time deterministic benchmark sync_batchnorm "
    "seed run_name async_checkpoint channels_last optimizer_kernel tf32 compile cuda_graph overlap_transfer".split()
)


def _settled(name: str, value: Any) -> Any:
    """The value as the loops want it, where the argument of that name may be None, -1, or a text with a unit."""
    if isinstance(value, str) and "every_n_" in name:
        from lightkit.intervals import counted_argument

        return counted_argument(name, value)
    if name == "num_sanity_val_steps":
        return 2 if value is None else math.inf if value == -1 else value
    return 1.0 if value is None and name.startswith("limit_") else value
