"""What ModelCheckpoint needs besides its state: its arguments checked, names and places of files."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import is_inside, is_url
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.callbacks.model_checkpoint import ModelCheckpoint
    from lightkit.trainer import Trainer

__all__ = [
    "Note", "candidates", "check_arguments", "check_name", "fill_pattern", "find_file", "name_in", "replace_link",
    "Save", "warn_gone", "warn_no_score",
]  # fmt: skip


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


def check_name(name: str, where: str) -> None:
    """Raise ConfigError where a name of a file, or its pattern, would lead out of the folder or cannot be one."""
    problem = None
    if "\0" in name:
        problem = "a name of a file cannot hold a NUL character"
    elif os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
        problem = "names stay inside the folder of the checkpoints; give another folder as dirpath"
    if problem is not None:
        raise ConfigError(f"{where}: {problem}.")


def candidates(trainer: Trainer) -> dict[str, Tensor]:
    """Return the logged metrics with `epoch` and `step`, which are whole numbers even where logged."""
    metrics = dict(trainer.callback_metrics)
    for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
        logged = metrics.get(name)
        metrics[name] = logged.int() if isinstance(logged, Tensor) else torch.tensor(count)
    return metrics


def fill_pattern(pattern: str, metrics: Mapping[str, Any], equals: str | None) -> str:
    """Return the pattern with `{name}` and `{name:format}` filled in from the metrics, 0 where there is none.

    With `equals`, what stands between a name and its value, the name is written too: `epoch=3`.
    """

    def fill(match: re.Match[str]) -> str:
        name, spec = match[1], match[2] or ""
        label = "" if equals is None else f"{name}{equals}"
        return label + format(metrics.get(name, 0), spec[1:])

    return re.sub(r"\{([^{}:]*)(:[^{}]*)?\}", fill, pattern)


def name_in(root: str | Path, path: str) -> str:
    """Return a path relative to the folder `root`, with `/`, by its text alone; "" where it does not lie in there."""
    if "\0" in path:
        return ""
    if "://" in path:  # which is data: nobody asks its store
        name = path.removeprefix(f"{root}/") if path.startswith(f"{root}/") else "."
    else:
        try:
            name = Path(path).relative_to(str(root)).as_posix()
        except ValueError:
            return ""
    return "" if name == "." or ".." in name.split("/") else name


def find_file(path: str, then: str, now: str) -> str:
    """Return where a file that was in the folder `then` is in the folder `now`; "" where it was or would be elsewhere.

    Whether it is there is another question.
    """
    name = name_in(then, path)
    place = os.path.join(now, name)
    return place if name and is_inside(now, place) else ""


def warn_gone(paths: list[str]) -> None:
    """Say which files that were kept are not there any more."""
    if paths:
        those = f"ModelCheckpoint: {len(paths)} checkpoint(s) kept before the resume"
        warnings.warn(f"{those} no longer exist and are forgotten: {', '.join(paths)}", stacklevel=4)


def warn_no_score(monitor: str | None, what: str) -> None:
    """Say why nothing is ranked, and what is done instead."""
    problem = f"no validation has run yet and no metric {monitor!r} was logged, so checkpoints have no score"
    warnings.warn(f"ModelCheckpoint(monitor={monitor!r}): {problem}; {what} until there is one", stacklevel=4)


def replace_link(path: str, link: str) -> None:
    """Make `link` a symbolic link to `path`, in one move; a copy where the system or the store allows no links."""
    if is_url(link):
        atomic.copy(path, link)
        return
    partial = atomic.temporary_name(Path(link))
    try:
        os.symlink(os.path.relpath(path, os.path.dirname(link)), partial)
    except OSError:
        atomic.copy(path, link)
    else:
        os.replace(partial, link)
