"""Arguments that the Trainer once had (0.4 to 1.9), read as what they are now; one warning says how.

`READ_AS` is the table. What it does not read is refused with what to write (`removed_arguments.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError
from lightkit.removed_arguments import refuse_unknown
from lightkit.settings import Settings, as_list

Found = dict[str, Any]  # new arguments; nothing where the old one asks for what is so anyway


@dataclass
class _Refused(Exception):
    """The value asks for what lightkit does not have."""


@dataclass(frozen=True)
class Wanted:
    """A callback that is to be made."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@dataclass(frozen=True)
class Translated:
    """The settings that old arguments ask for, and what of them only a fit can do."""

    settings: Settings
    resume_from: str | None = None  # a checkpoint for fits without a ckpt_path


# ---------------------------------------------------------------------- how a value is read


def _as(name: str) -> Callable[[Any], Found]:
    """Under another name; None asks for nothing."""
    return lambda value: {} if value is None else {name: value}


def _nothing(value: Any) -> Found:
    return {}


def _nothing_but_off(value: Any) -> Found:
    """What is off asks for nothing; what is on is refused."""
    if value in (None, False, 0, -1, "", []):
        return {}
    raise _Refused


def _gpus(value: Any) -> Found:
    if value is None:
        return {}
    if value in (0, "0", [], ""):
        return {"accelerator": "cpu"}
    return {"accelerator": "gpu", "devices": value}


def _processes(value: Any) -> Found:
    return {"accelerator": "cpu", "devices": value} if value not in (None, 1) else {}


def _backend(value: Any) -> Found:
    return {} if value in (None, "dp", "ddp", "ddp2", "ddp_spawn", "ddp_cpu") else {"strategy": value}


def _amp(value: Any) -> Found:
    return {"precision": "16-mixed"} if value else {}


def _bar(value: Any) -> Found:
    if value is None or (value is not False and value == 1):
        return {}
    if value == 0:
        return {"enable_progress_bar": False}
    return {"callbacks": Wanted("TQDMProgressBar", {"refresh_rate": int(value)})}


def _summary(value: Any) -> Found:
    if value not in (None, "top", "full"):
        raise ConfigError(f"Trainer(weights_summary={value!r}): expected 'top', 'full' or None")
    if value is None:
        return {"enable_model_summary": False}
    return {"callbacks": Wanted("ModelSummary", {"max_depth": 1 if value == "top" else -1})}


def _saving(value: Any) -> Found:
    if isinstance(value, Callback):
        return {"callbacks": value}
    return {"enable_checkpointing": False} if value is False else {}


def _stopping(value: Any) -> Found:
    if isinstance(value, Callback):
        return {"callbacks": value}
    if not value:
        return {}
    return {"callbacks": Wanted("EarlyStopping", {"monitor": "val_loss", "patience": 3, "verbose": True})}


def _on_nan(value: Any) -> Found:
    return {"nan_check": "step"} if value else {}


def _every_epoch(value: Any) -> Found:
    return {"reload_dataloaders_every_n_epochs": 1} if value else {}


def _loaders_mode(value: Any) -> Found:
    if value in (None, "max_size_cycle"):
        return {}
    raise _Refused


READ_AS: Mapping[str, Callable[[Any], Found]] = {
    "gpus": _gpus, "num_processes": _processes, "nb_gpu_nodes": _as("num_nodes"), "auto_select_gpus": _nothing,
    "distributed_backend": _backend, "tpu_cores": _nothing_but_off, "ipus": _nothing_but_off,
    "num_tpu_cores": _nothing_but_off, "sync_bn": _as("sync_batchnorm"),
    "use_amp": _amp, "amp_level": _nothing, "amp_backend": _nothing,
    "max_nb_epochs": _as("max_epochs"), "min_nb_epochs": _as("min_epochs"),
    "train_percent_check": _as("limit_train_batches"), "val_percent_check": _as("limit_val_batches"),
    "test_percent_check": _as("limit_test_batches"), "overfit_pct": _as("overfit_batches"),
    "nb_sanity_val_steps": _as("num_sanity_val_steps"), "gradient_clip": _as("gradient_clip_val"),
    "row_log_interval": _as("log_every_n_steps"), "add_row_log_interval": _as("log_every_n_steps"),
    "log_save_interval": _nothing, "flush_logs_every_n_steps": _nothing,
    "default_save_path": _as("default_root_dir"), "weights_save_path": _as("default_root_dir"),
    "checkpoint_callback": _saving, "early_stop_callback": _stopping, "weights_summary": _summary,
    "progress_bar_refresh_rate": _bar, "show_progress_bar": _as("enable_progress_bar"), "process_position": _nothing,
    "reload_dataloaders_every_epoch": _every_epoch, "replace_sampler_ddp": _as("use_distributed_sampler"),
    "multiple_trainloader_mode": _loaders_mode, "prepare_data_per_node": _nothing, "move_metrics_to_cpu": _nothing,
    "terminate_on_nan": _on_nan, "print_nan_grads": _nothing_but_off, "track_grad_norm": _nothing_but_off,
    "log_gpu_memory": _nothing_but_off, "stochastic_weight_avg": _nothing_but_off,
    "truncated_bptt_steps": _nothing_but_off, "auto_lr_find": _nothing_but_off,
    "auto_scale_batch_size": _nothing_but_off, "resume_from_checkpoint": _as("fit(ckpt_path)"),
}  # fmt: skip


# ---------------------------------------------------------------------- all of them at once


def translated(
    asked: Settings, old: Mapping[str, Any], known: Iterable[str], make: Callable[..., Callback]
) -> Translated:
    """The settings with what the old arguments ask for; make: a callback by its name and arguments.

    Raises:
        ConfigError: arguments that never were, or that lightkit has nothing for, all at once, each with what to write;
            one that says otherwise than the argument that it is now.
    """
    found: Found = {}
    callbacks: list[Callback] = []
    said: dict[str, str] = {}
    refused: dict[str, Any] = {}
    for name, value in old.items():
        try:
            new = READ_AS[name](value)
        except (KeyError, _Refused):
            refused[name] = value
            continue
        if new or value is not None:
            said[name] = f"Trainer({name}={value!r})" + (" is left out" if not new else f" is read as {_written(new)}")
        if "callbacks" in new:
            wanted = new.pop("callbacks")
            callbacks.append(make(wanted.name, **wanted.arguments) if isinstance(wanted, Wanted) else wanted)
        _check_same(asked, name, value, new)
        for other, wanted in new.items():
            if found.get(other, wanted) != wanted:
                before = f"{other}={found[other]!r}"
                raise ConfigError(f"Trainer({name}={value!r}): an earlier argument also asks for {before}; take one")
        found |= new
    if refused:
        refuse_unknown(refused, known)
    resume_from = found.pop("fit(ckpt_path)", None)
    if callbacks:
        found["callbacks"] = [*as_list(asked.callbacks), *callbacks]
    if said:
        warnings.warn(f"arguments of an earlier Lightning: {'; '.join(said.values())}", stacklevel=4)
    return Translated(replace(asked, **found), resume_from)


def _check_same(asked: Settings, name: str, value: object, new: Found) -> None:
    """Raise ConfigError where the argument of today was given, too, and says something else."""
    defaults = {each.name: each.default for each in fields(Settings)}
    for other, wanted in new.items():
        given = getattr(asked, other, None)
        if given not in (None, defaults.get(other), wanted):
            raise ConfigError(f"Trainer({name}={value!r}, {other}={given!r}): both mean {other}; leave the first out")


def _written(new: Found) -> str:
    return ", ".join(
        f"callbacks=[{value if isinstance(value, Wanted) else f'{type(value).__name__}(...)'}]" if name == "callbacks"
        else f"trainer.fit(model, ckpt_path={value!r})" if name == "fit(ckpt_path)" else f"{name}={value!r}"
        for name, value in new.items()
    )  # fmt: skip
