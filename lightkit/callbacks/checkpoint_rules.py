"""What ModelCheckpoint needs besides its state: its arguments checked, what it decided at a moment, what it says."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightkit.callbacks.checkpoint_names import check_name
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.callbacks.model_checkpoint import ModelCheckpoint
    from lightkit.trainer import Trainer

__all__ = ["Note", "Save", "candidates", "check_arguments", "check_state", "warn_gone", "warn_no_score"]


@dataclass(frozen=True)
class Save:
    """What one callback writes and removes at one moment."""

    by: ModelCheckpoint
    path: str  # among the best, or on its own; "": none
    last: str  # "": none
    is_link: bool  # `last` is a link to `path`
    leaving: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """What is written, the link included."""
        return [path for path in (self.path, self.last) if path]


@dataclass(frozen=True)
class Note:
    """What a file says of a callback beside its state: the stand-in for a ranked file; what a save waits for."""

    unranked: str = ""
    waits_for: Literal["", "validation", "epoch"] = ""
    scored_at: int = -1
    score: float = math.nan
    batches: int | None = None  # of the whole training at the last save

    @classmethod
    def of(cls, said: Mapping[str, Any] | None, waits: str) -> Note:
        """As a file has it, where what is not of its form is left out. waits: what it is without a note."""
        found = {"waits_for": waits} if said is None else said
        names = "unranked", "waits_for", "scored_at", "batches"
        unranked, waits_for, scored_at, batches = (found.get(name) for name in names)
        return cls(
            unranked if isinstance(unranked, str) else "",
            "validation" if waits_for == "validation" else "epoch" if waits_for == "epoch" else "",
            scored_at if isinstance(scored_at, int) else -1,
            score if isinstance(score := found.get("score"), float) else math.nan,
            batches if isinstance(batches, int) else None,
        )


def check_arguments(
    mode: str, monitor: str | None, filename: str | None, save_top_k: int, save_last: Any, save_on_exception: bool,
    triggers: Mapping[str, Any],
) -> None:  # fmt: skip
    """Raise ConfigError for arguments of ModelCheckpoint that cannot work.

    triggers: those that were given; the default, every epoch, is none of them.
    """

    def require(is_right: bool, argument: str, value: Any, expected: str) -> None:
        if not is_right:
            raise ConfigError(f"ModelCheckpoint({argument}={value!r}): expected {expected}.")

    require(mode in ("min", "max"), "mode", mode, "'min' or 'max'")
    require(save_top_k >= -1, "save_top_k", save_top_k, "-1 (keep all), 0 (keep none) or a positive number")
    require(save_last in (None, False, True, "link"), "save_last", save_last, "True, False or 'link'")
    is_ranked = monitor is not None or save_top_k <= 1
    require(is_ranked, "save_top_k", save_top_k, "-1, 0 or 1 without a monitor, which says what is best")
    given = {name: value for name, value in triggers.items() if value is not None}
    for name in ("every_n_train_steps", "every_n_epochs"):
        require(given.get(name, 0) >= 0, name, given.get(name), "0 (not by these) or a positive number")
    # A time interval of zero is a trigger too: at every step.
    active = [f"{name}={value!r}" for name, value in given.items() if value != 0]
    if len(active) > 1:
        raise ConfigError(f"ModelCheckpoint({', '.join(active)}): give only one of them.")
    if given and not active and not save_last and not save_on_exception:
        off = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ConfigError(
            f"ModelCheckpoint({off}): would never save; give a positive number, another trigger, save_last=True "
            "(at the end of the training) or save_on_exception=True."
        )
    if filename is not None:
        check_name(filename, f"ModelCheckpoint(filename={filename!r})")


def check_state(state: object) -> None:
    """Raise StateError for what is no state of ModelCheckpoint."""
    from lightkit.schema import SCALAR, TEXT, TRUTH, WHOLE, DictOf, Record, optional

    texts = dict.fromkeys(("best_model_path", "last_model_path", "newest_file"), TEXT)
    counts = {"best_k_models": DictOf(SCALAR), "last_step_saved": WHOLE, "is_deferred": TRUTH}
    scores = dict.fromkeys(("current_score", "kth_value", "best_model_score"), optional(SCALAR))
    Record({}, {"dirpath": optional(TEXT), **texts, **counts, **scores}).check(state)


def triggers(steps: int | str | None, epochs: int | str | None, time: timedelta | str | None) -> dict[str, Any]:
    """What says when to save, without its units."""
    if any(isinstance(value, str) for value in (steps, epochs, time)):
        from lightkit.durations import parse_duration
        from lightkit.intervals import counted

        other = "for another unit there are every_n_train_steps, every_n_epochs, train_time_interval"
        steps = counted(steps, "step", f"ModelCheckpoint(every_n_train_steps={steps!r})", other)
        epochs = counted(epochs, "epoch", f"ModelCheckpoint(every_n_epochs={epochs!r})", other)
        if isinstance(time, str):
            time = parse_duration(time, "ModelCheckpoint(train_time_interval={!r})")
    return {"every_n_train_steps": steps, "every_n_epochs": epochs, "train_time_interval": time}


def candidates(trainer: Trainer) -> dict[str, Tensor]:
    """Return the logged metrics with `epoch` and `step`, which are whole numbers even where logged."""
    metrics = dict(trainer.callback_metrics)
    for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
        logged = metrics.get(name)
        metrics[name] = logged.int() if isinstance(logged, Tensor) else torch.tensor(count)
    return metrics


def warn_gone(paths: list[str]) -> None:
    """Say which files that were kept are not there any more."""
    if paths:
        those = f"ModelCheckpoint: {len(paths)} checkpoint(s) kept before the resume"
        warnings.warn(f"{those} no longer exist and are forgotten: {', '.join(paths)}", stacklevel=4)


def warn_no_score(monitor: str | None, what: str) -> None:
    """Say why nothing is ranked, and what is done instead."""
    problem = f"no validation has run yet and no metric {monitor!r} was logged, so checkpoints have no score"
    warnings.warn(f"ModelCheckpoint(monitor={monitor!r}): {problem}; {what} until there is one", stacklevel=4)
