"""Which file a `ckpt_path` means."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from lightkit import rundir
from lightkit.checkpoint import contents, files
from lightkit.errors import ConfigError


def resolve(trainer: Any, fn: str, ckpt_path: Any) -> Path | None:
    """The file that a path, "best" or "last" means; None where nothing is to be loaded."""
    if ckpt_path is None:
        return None
    if ckpt_path == "best":
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if not best:
            raise ConfigError(
                f"trainer.{fn}(ckpt_path='best'): this Trainer has saved no checkpoint; fit first, or give a path"
            )
        return Path(best)
    if ckpt_path == "last":
        path = _last(trainer, must_train=fn == "fit")
        if path is None:
            warnings.warn(
                f"trainer.{fn}(ckpt_path='last'): there is no checkpoint yet, nothing is loaded", stacklevel=2
            )
        return path
    return Path(ckpt_path)


def for_fit(trainer: Any, ckpt_path: Any) -> tuple[dict[str, Any] | None, str]:
    """The checkpoint to go on from and its path, None where training begins; its run goes on in its own directory."""
    path = resolve(trainer, "fit", ckpt_path)
    if path is None:
        return None, ""
    checkpoint = files.load(path)
    trainer.ckpt_path = str(path)
    home = rundir.of_checkpoint(path)
    if home is not None and trainer._run_dir is None and trainer._explicit_run_dir is None:
        trainer._run_dir = home
    return checkpoint, str(path)


def for_evaluation(trainer: Any, fn: str, model: Any, ckpt_path: Any) -> Path | None:
    """The file to evaluate: the one asked for, else the fit's best where one was monitored and no model is given."""
    if ckpt_path is None and model is None and trainer.has_fitted:
        callback = trainer.checkpoint_callback
        best = getattr(callback, "best_model_path", "")
        if best and getattr(callback, "monitor", None) is not None:
            trainer.print(f"{fn}: the best checkpoint of the fit is used, {best}")
            trainer.ckpt_path = str(best)
            return Path(best)
        trainer.ckpt_path = None
        return None
    path = resolve(trainer, fn, ckpt_path)
    trainer.ckpt_path = None if path is None else str(path)
    return path


def _last(trainer: Any, *, must_train: bool) -> Path | None:
    """The newest whole checkpoint in this Trainer's folders, else in those of the newest run that has one.

    must_train: one that training can go on from; files of weights alone are passed over.
    """
    is_wanted = _can_train if must_train else None
    callbacks = trainer.checkpoint_callbacks
    own = [Path(c.dirpath) for c in callbacks if getattr(c, "dirpath", None)]
    runs: list[Path] = []
    if trainer._explicit_run_dir is not None:
        own.append(trainer._explicit_run_dir / "checkpoints")
    elif len(own) < len(callbacks) or not callbacks:  # a callback without a folder saves in the run directory
        name = trainer._run_name or type(trainer.lightning_module).__name__
        runs = [d / "checkpoints" for d in rundir.earlier(Path(trainer.default_root_dir), name)]
    of_newest_run = next((p for d in runs if (p := files.newest_whole([d], is_wanted=is_wanted)) is not None), None)
    return files.newest_whole([*own, *([of_newest_run.parent] if of_newest_run else [])], is_wanted=is_wanted)


def _can_train(path: Path) -> bool:
    """Whether a file holds more than weights; only its table of contents is read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch's readers raise nearly everything for files that are not theirs
        return False
    return isinstance(content, dict) and contents.can_train(content)
