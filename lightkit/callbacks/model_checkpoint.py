"""Save the best and the last checkpoints while training."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import yaml
from torch import Tensor

from lightkit.callbacks import checkpoint_rules as rules
from lightkit.callbacks.base import Checkpoint, monitored_value, validates_once_an_epoch

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Checkpoint):
    """Saves checkpoints every so many epochs, steps or minutes, and keeps the `save_top_k` best.

    Arguments, defaults and file names are Lightning 2.6's. It saves at most once a step, never in a sanity
    check or with `fast_dev_run`. It deletes only files that it wrote itself, inside its `dirpath`, and never
    the one that the run was resumed from.

    Args:
        dirpath: where to save. Default: `checkpoints/` in the run directory.
        filename: a pattern such as `"{epoch:02d}-{val_loss:.3f}"`. Default: `"{epoch}-{step}"`.
        monitor: the logged metric that says which are best. Default: the newest is best.
        verbose: say what is saved and why.
        save_last: also save as `last.ckpt` each time, also what is not among the best; "link": a symbolic
            link to the newest that is.
        save_top_k: how many to keep; -1: all, 0: none.
        save_on_exception: save when an exception ends the run.
        save_weights_only: leave out what only a resume needs.
        mode: "min" or "max": which values of `monitor` are better. NaN counts as the worst.
        auto_insert_metric_name: write `epoch=1`, not `1`, for `{epoch}` in the pattern.
        every_n_train_steps, train_time_interval, every_n_epochs: when to save; at most one of them.
            Default: every epoch.
        save_on_train_epoch_end: at the end of the training epoch, not of the validation. Default: whichever comes last.
        enable_version_counter: add `-v1`, `-v2`, ... to a name that is taken; otherwise overwrite the file.

    Raises:
        ConfigError: an argument that cannot work; while running, a `monitor` that was never logged.
    """

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, monitor: str | None = None,
        verbose: bool = False, save_last: bool | Literal["link"] | None = None, save_top_k: int = 1,
        save_on_exception: bool = False, save_weights_only: bool = False, mode: str = "min",
        auto_insert_metric_name: bool = True, every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None, every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None, enable_version_counter: bool = True,
    ) -> None:  # fmt: skip
        self._given_dirpath = None if dirpath is None else os.path.realpath(os.path.expanduser(dirpath))
        self.dirpath: str | None = self._given_dirpath
        self.filename = filename
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.verbose = verbose
        self.save_last = save_last
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._enable_version_counter = enable_version_counter
        is_given = any(t is not None for t in (every_n_train_steps, every_n_epochs, train_time_interval))
        self._every_n_train_steps = every_n_train_steps or 0
        self._every_n_epochs = (every_n_epochs or 0) if is_given else 1
        self._train_time_interval = train_time_interval
        self._triggers = {
            "every_n_train_steps": self._every_n_train_steps, "every_n_epochs": self._every_n_epochs,
            "train_time_interval": train_time_interval,
        }  # fmt: skip
        rules.check_arguments(mode, monitor, save_top_k, save_last, self._triggers)
        self._last_saved_at_s = -math.inf
        self._step_seen = 0
        self.current_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path = ""
        self.kth_value = torch.tensor(self._worst)
        self.best_model_score: Tensor | None = None
        self.best_model_path = ""
        self.last_model_path = ""
        self._newest_file = ""
        self._last_step_saved = 0  # nothing to save before the first step
        self._is_deferred = False  # a save waits for the metric that the next validation will log

    @property
    def state_key(self) -> str:
        """The class with what may differ between two of them in one trainer."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode, **self._triggers)

    @property
    def every_n_epochs(self) -> int:
        """Every how many epochs it saves; 0: not by epochs at all."""
        return self._every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Find the directory to save in."""
        if stage == "fit" and self._given_dirpath is None and not trainer.fast_dev_run:
            self.dirpath = str(Path(trainer.run_dir, "checkpoints").resolve())

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Start the clock of `train_time_interval`."""
        self._last_saved_at_s = time.monotonic()
        self._step_seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where `every_n_train_steps` or `train_time_interval` says so."""
        step, every = trainer.global_step, self._every_n_train_steps
        if (every < 1 and self._train_time_interval is None) or step == self._step_seen:
            return  # between micro-batches of one step, a checkpoint would lose the gradients so far
        self._step_seen = step
        if not (self._is_time() if every < 1 else step % every == 0) or self._should_skip(trainer):
            return
        if self.monitor is not None:  # wait for a value, and for the newer one that is about to come
            is_missing = self.monitor not in rules.candidates(trainer)
            self._is_deferred = is_missing or rules.comes_validation(trainer, batch_idx)
        if not self._is_deferred:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save at the end of the training epoch, if that is the time to."""
        self._save_after_epoch(trainer, is_train_epoch_end=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save at the end of the validation, if that is the time to."""
        self._save_after_epoch(trainer, is_train_epoch_end=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save `last.ckpt` where nothing was saved during the run."""
        if self.save_last and not self._newest_file and not self._should_skip(trainer):
            self._save(trainer, top_k=False)

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None:
        """Save where `save_on_exception` says so, under the name of the pattern."""
        if not self.save_on_exception or self._should_skip(trainer):
            return
        path = self._free_name(rules.candidates(trainer), None, "")
        self._write(trainer, path)
        self._save(trainer, top_k=False)
        trainer.print(f"ModelCheckpoint: saved {path} after {type(exception).__name__}: {exception}")

    def _should_skip(self, trainer: Trainer) -> bool:
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run
        return not is_training or self._last_step_saved == trainer.global_step

    def _should_save_on_train_epoch_end(self, trainer: Trainer) -> bool:
        """Whether to save at the end of the training epoch: where no validation comes after it."""
        if self._save_on_train_epoch_end is not None:
            return self._save_on_train_epoch_end
        if trainer.check_val_every_n_epoch != 1:
            return False
        return sum(trainer.num_val_batches) == 0 or validates_once_an_epoch(trainer)

    def _is_time(self) -> bool:
        """Whether `train_time_interval` has passed; then it begins anew."""
        assert self._train_time_interval is not None
        now_s = time.monotonic()
        if now_s - self._last_saved_at_s < self._train_time_interval.total_seconds():
            return False
        self._last_saved_at_s = now_s
        return True

    def _save_after_epoch(self, trainer: Trainer, *, is_train_epoch_end: bool) -> None:
        if self._should_skip(trainer) or self._should_save_on_train_epoch_end(trainer) != is_train_epoch_end:
            return
        every = self._every_n_epochs
        if self._is_deferred or (every >= 1 and (trainer.current_epoch + 1) % every == 0):
            self._is_deferred = False
            self._save(trainer)

    def _save(self, trainer: Trainer, top_k: bool = True) -> None:
        """Save among the best, if it is one of them, and as the last.

        What the state says is settled before the first file is written: each file holds the state that includes itself.
        """
        trainer.checkpoint_writer.settle()  # names depend on the files that are there
        metrics = rules.candidates(trainer)
        is_kept = top_k and self._should_keep(trainer, metrics)
        is_link = self.save_last == "link" and self.save_top_k != 0
        should_save_last = bool(self.save_last) and (is_kept or not top_k or not is_link)
        previous_last = self.last_model_path
        if should_save_last:
            self.last_model_path = self._free_name(metrics, self.CHECKPOINT_NAME_LAST, previous_last)
        if is_kept:
            self._save_among_best(trainer, metrics)
        if should_save_last:
            if not (is_link and self._newest_file):
                self._write(trainer, self.last_model_path, copy_of=self._newest_file if is_kept else "")
            elif trainer.is_global_zero:
                trainer.checkpoint_writer.then(partial(rules.replace_link, self._newest_file, self.last_model_path))
            self._remove(trainer, previous_last, but=self.last_model_path)

    def _should_keep(self, trainer: Trainer, metrics: Mapping[str, Tensor]) -> bool:
        if self.save_top_k == 0 or self.monitor is None:
            return self.save_top_k != 0
        is_better = self.check_monitor_top_k(trainer, self._monitored(metrics))
        if not is_better and self.verbose:
            self._say(trainer, metrics, f"is not among the best {self.save_top_k}")
        return is_better

    def _say(self, trainer: Trainer, metrics: Mapping[str, Tensor], what: str) -> None:
        epoch, step, score = int(metrics["epoch"]), int(metrics["step"]), float(self._monitored(metrics))
        trainer.print(f"Epoch {epoch}, step {step}: {self.monitor} = {score:.5g} {what}")

    def _save_among_best(self, trainer: Trainer, metrics: dict[str, Tensor]) -> None:
        """Save a file that is among the best, and remove the one that no longer is."""
        if self.monitor is None:
            leaving = self.best_model_path if self.save_top_k == 1 else ""
            path = self._free_name(metrics, None, self.best_model_path)
            self.best_model_path = path
        else:
            is_full = 0 < self.save_top_k <= len(self.best_k_models)
            leaving = self.kth_best_model_path if is_full else ""
            self.best_k_models.pop(leaving, None)
            path = self._free_name(metrics, None, leaving)
            self.current_score = self._monitored(metrics)
            self.best_k_models[path] = self.current_score
            self._rank()
            if self.verbose:
                self._say(trainer, metrics, f"is among the best {self.save_top_k}; saving {path}")
        self._write(trainer, path)
        self._remove(trainer, leaving, but=path)

    @property
    def _worst(self) -> float:
        return torch.inf if self.mode == "min" else -torch.inf

    def _monitored(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Return the monitored value, 0-dim on the CPU, the worst there is for NaN."""
        assert self.monitor is not None
        value = monitored_value(metrics, self.monitor, f"ModelCheckpoint(monitor={self.monitor!r})")
        return torch.full_like(value, self._worst) if torch.isnan(value) else value

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint with this score belongs to the best `save_top_k`."""
        if current is None or self.save_top_k == 0:
            return False
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        kth = self.best_k_models[self.kth_best_model_path]
        return bool(current < kth if self.mode == "min" else current > kth)

    def _rank(self) -> None:
        """Find the best and the worst of the kept checkpoints; of equal ones the earlier, as in Lightning."""
        scores = {path: float(score) for path, score in self.best_k_models.items()}
        best, worst = (min, max) if self.mode == "min" else (max, min)
        self.best_model_path = best(scores, key=scores.__getitem__, default="")
        self.best_model_score = self.best_k_models.get(self.best_model_path)
        self.kth_best_model_path = ""
        if scores and (self.save_top_k == -1 or 0 < self.save_top_k <= len(scores)):
            self.kth_best_model_path = worst(scores, key=scores.__getitem__)
            self.kth_value = self.best_k_models[self.kth_best_model_path]

    def _write(self, trainer: Trainer, path: str, *, copy_of: str = "") -> None:
        """Save a file; copy_of: one that was saved just now and holds the same."""
        self._last_step_saved = trainer.global_step
        self._newest_file = path
        if not (copy_of and trainer.checkpoint_writer.copy(copy_of, path)):
            trainer.save_checkpoint(path, self.save_weights_only)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                trainer.checkpoint_writer.afterwards(partial(logger.after_save_checkpoint, self))

    def _remove(self, trainer: Trainer, path: str, *, but: str) -> None:
        """Delete a file of ours in our directory, unless it is `but` or the run was resumed from it."""
        if not path or path == but or not trainer.is_global_zero:
            return
        assert self.dirpath is not None
        resumed_from = os.path.abspath(trainer.ckpt_path) if trainer.ckpt_path else None
        if os.path.abspath(path) != resumed_from and Path(self.dirpath) in Path(path).parents:
            trainer.checkpoint_writer.then(partial(Path(path).unlink, missing_ok=True))

    def _free_name(self, metrics: dict[str, Tensor], pattern: str | None, own: str) -> str:
        """Return the path to save to: one that no file has, or `own`, which will be replaced."""
        path, version = self.format_checkpoint_name(metrics, pattern), self.STARTING_VERSION
        while self._enable_version_counter and path != own and os.path.lexists(path):
            path, version = self.format_checkpoint_name(metrics, pattern, ver=version), version + 1
        return path

    def format_checkpoint_name(
        self, metrics: Mapping[str, Tensor | float], filename: str | None = None, ver: int | None = None,
        prefix: str | None = None,
    ) -> str:  # fmt: skip
        """Return the path that the pattern gives with these metrics; a metric that is not there counts as 0.

        `filename` is a pattern other than the callback's; `ver` N is appended as `-vN`, `prefix` put before.
        """
        pattern = filename or self.filename or "{epoch}" + self.CHECKPOINT_JOIN_CHAR + "{step}"
        equals = self.CHECKPOINT_EQUALS_CHAR if self.auto_insert_metric_name else None
        parts = (prefix, rules.fill_pattern(pattern, metrics, equals), None if ver is None else f"v{ver}")
        name = self.CHECKPOINT_JOIN_CHAR.join(part for part in parts if part is not None)
        return os.path.join(self.dirpath or "", name + self.FILE_EXTENSION)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept and how good it is."""
        return {
            "monitor": self.monitor, "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path, "current_score": self.current_score, "dirpath": self.dirpath,
            # numbers: a tensor is a part of the file of its own, and there may be one for each file that is kept
            "best_k_models": {path: float(score) for path, score in self.best_k_models.items()},
            "kth_best_model_path": self.kth_best_model_path, "kth_value": self.kth_value,
            "last_model_path": self.last_model_path, "newest_file": self._newest_file,
            "last_step_saved": self._last_step_saved, "is_deferred": self._is_deferred,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the checkpoints that were kept; files that are gone leave the list, with a warning.

        Where the run directory was moved, the files are looked for in the present one first.
        """

        def here(path: str) -> str:
            return rules.find_file(path, state_dict.get("dirpath"), self.dirpath)

        kept = state_dict.get("best_k_models", {})
        double = torch.float64  # holds every number that a metric of any precision had
        self.best_k_models = {here(p): torch.as_tensor(v, dtype=double) for p, v in kept.items() if here(p)}
        best = state_dict.get("best_model_path", "")
        gone = [path for path in dict.fromkeys([*kept, best]) if path and not here(path)]
        if gone:
            those = f"ModelCheckpoint: {len(gone)} checkpoint(s) kept before the resume"
            warnings.warn(f"{those} no longer exist and are forgotten: {', '.join(gone)}", stacklevel=2)
        self.current_score = state_dict.get("current_score")
        self.kth_value = state_dict.get("kth_value", self.kth_value)
        if self.monitor is None:
            self.best_model_path = here(best)
        else:
            self._rank()
        self.last_model_path = here(state_dict.get("last_model_path", ""))
        self._newest_file = here(state_dict.get("newest_file", ""))
        self._last_step_saved = state_dict.get("last_step_saved", 0)
        self._is_deferred = state_dict.get("is_deferred", False)

    def to_yaml(self, filepath: str | Path | None = None) -> None:
        """Write the paths of the kept checkpoints with their scores to `best_k_models.yaml`."""
        if filepath is None:
            assert self.dirpath is not None
            filepath = Path(self.dirpath, "best_k_models.yaml")
        scores = {path: float(score) for path, score in self.best_k_models.items()}
        Path(filepath).write_text(yaml.safe_dump(scores), encoding="utf-8")
