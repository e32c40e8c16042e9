"""Which file a `ckpt_path` means."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.checkpoint import contents, files
from lightkit.errors import ConfigError
from lightkit.run import directory

if TYPE_CHECKING:
    from lightkit.run.base import Run


def resolve(run: Run, ckpt_path: str | Path | None, saved_by: Sequence[Callback]) -> Path | None:
    """The file that a path, "best" or "last" means; None where nothing is to be loaded.

    saved_by: the callbacks that know which checkpoint is the best.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "best":
        best, _ = best_of(saved_by)
        if not best:
            raise ConfigError(
                f"trainer.{run.fn}(ckpt_path='best'): this Trainer has saved no checkpoint; fit first, or give a path"
            )
        return Path(best)
    if ckpt_path == "last":
        path = _last(run, must_train=run.fn == "fit")
        if path is None:
            warnings.warn(
                f"trainer.{run.fn}(ckpt_path='last'): there is no checkpoint yet, nothing is loaded", stacklevel=2
            )
        return path
    return Path(ckpt_path)


def best_of(callbacks: Sequence[Callback]) -> tuple[str, str | None]:
    """The best checkpoint of the first callback that saves, "" where there is none; and the metric it watches."""
    for callback in callbacks:
        if isinstance(callback, Checkpoint):
            return callback.best_model_path, callback.monitor
    return "", None


def for_fit(run: Run, ckpt_path: str | Path) -> tuple[dict[str, Any] | None, str]:
    """The checkpoint to go on from and its path, None where training begins; its run goes on in its own directory."""
    path = resolve(run, ckpt_path, run.callbacks)
    if path is None:
        return None, ""
    checkpoint = files.load(path)
    home = directory.of_checkpoint(path)
    if home is not None:
        run.directory.adopt(home)
    return checkpoint, str(path)


def _last(run: Run, *, must_train: bool) -> Path | None:
    """The newest whole checkpoint in this Trainer's folders, else in those of the newest run that has one.

    must_train: one that training can go on from; files of weights alone are passed over.
    """
    is_wanted = _can_train if must_train else None
    callbacks = [c for c in run.callbacks if isinstance(c, Checkpoint)]
    own = [Path(folder) for c in callbacks if (folder := c.dirpath)]
    runs: list[Path] = []
    place = run.directory
    if place.explicit is not None:
        own.append(place.explicit / "checkpoints")
    elif len(own) < len(callbacks) or not callbacks:  # a callback without a folder saves in the run directory
        runs = [d / "checkpoints" for d in directory.earlier(place.root, place.name(run.name))]
    of_newest_run = next((p for d in runs if (p := files.newest_whole([d], is_wanted=is_wanted)) is not None), None)
    return files.newest_whole([*own, *([of_newest_run.parent] if of_newest_run else [])], is_wanted=is_wanted)


def _can_train(path: Path) -> bool:
    """Whether a file holds more than weights; only its table of contents is read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch's readers raise nearly everything for files that are not theirs
        return False
    return isinstance(content, dict) and contents.can_train(content)
