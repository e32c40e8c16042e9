"""What ModelCheckpoint needs besides its state: its arguments checked, names and places of files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["candidates", "check_arguments", "comes_validation", "fill_pattern", "find_file", "replace_link"]


def check_arguments(
    mode: str, monitor: str | None, save_top_k: int, save_last: Any, triggers: Mapping[str, Any]
) -> None:
    """Raise ConfigError for arguments of ModelCheckpoint that cannot work."""

    def require(is_right: bool, argument: str, value: Any, expected: str) -> None:
        if not is_right:
            raise ConfigError(f"ModelCheckpoint({argument}={value!r}): expected {expected}.")

    require(mode in ("min", "max"), "mode", mode, "'min' or 'max'")
    require(save_top_k >= -1, "save_top_k", save_top_k, "-1 (keep all), 0 (keep none) or a positive number")
    require(save_last in (None, False, True, "link"), "save_last", save_last, "True, False or 'link'")
    is_ranked = monitor is not None or save_top_k <= 1
    require(is_ranked, "save_top_k", save_top_k, "-1, 0 or 1 without a monitor, which says what is best")
    for name in ("every_n_train_steps", "every_n_epochs"):
        require(triggers[name] >= 0, name, triggers[name], "0 (not by these) or a positive number")
    # A time interval of zero is a trigger too: at every step.
    given = [f"{name}={value!r}" for name, value in triggers.items() if value != 0 and value is not None]
    if len(given) > 1:
        raise ConfigError(f"ModelCheckpoint({', '.join(given)}): give only one of them.")


def candidates(trainer: Trainer) -> dict[str, Tensor]:
    """Return the logged metrics with `epoch` and `step`, which are whole numbers even where logged."""
    metrics = dict(trainer.callback_metrics)
    for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
        logged = metrics.get(name)
        metrics[name] = logged.int() if isinstance(logged, Tensor) else torch.tensor(count)
    return metrics


def comes_validation(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this is the last batch of an epoch that a validation ends, which renews the metrics."""
    if batch_idx + 1 < trainer.num_training_batches or not trainer.enable_validation:
        return False
    every = trainer.check_val_every_n_epoch
    return sum(trainer.num_val_batches) > 0 and (every is None or (trainer.current_epoch + 1) % every == 0)


def fill_pattern(pattern: str, metrics: Mapping[str, Any], equals: str | None) -> str:
    """Return the pattern with `{name}` and `{name:format}` filled in from the metrics, 0 where there is none.

    With `equals`, what stands between a name and its value, the name is written too: `epoch=3`.
    """

    def fill(match: re.Match[str]) -> str:
        name, spec = match[1], match[2] or ""
        label = "" if equals is None else f"{name}{equals}"
        return label + format(metrics.get(name, 0), spec[1:])

    return re.sub(r"\{([^{}:]*)(:[^{}]*)?\}", fill, pattern)


def find_file(path: str, then: str | None, now: str | None) -> str:
    """Return where a file of the directory `then` is in `now`, else `path` itself; "" where it is gone."""
    places = [path]
    if then and now and then != now and Path(then) in Path(path).parents:
        places.insert(0, str(Path(now, Path(path).relative_to(then))))
    return next((place for place in places if place and os.path.exists(place)), "")


def replace_link(path: str, link: str) -> None:
    """Make `link` a symbolic link to `path`, in one move; a copy where the system allows no links."""
    partial = f"{link}.tmp"
    Path(partial).unlink(missing_ok=True)
    try:
        os.symlink(os.path.relpath(path, os.path.dirname(link)), partial)
    except OSError:
        shutil.copyfile(path, partial)
    os.replace(partial, link)
