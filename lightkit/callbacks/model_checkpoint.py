"""Save the best and the last checkpoints while training."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lightkit.callbacks import checkpoint_rules as rules
from lightkit.callbacks.base import validates_once_an_epoch
from lightkit.callbacks.checkpoint_ranking import RankedCheckpoints

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(RankedCheckpoints):
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
        save_on_train_epoch_end: at the end of the training epoch, not of the validation. Default: whichever
            comes last.
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
        super().__init__(monitor, mode, save_top_k)
        self._given_dirpath = None if dirpath is None else os.path.realpath(os.path.expanduser(dirpath))
        self.dirpath = self._given_dirpath
        self.filename = filename
        self.verbose = verbose
        self.save_last = save_last
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._enable_version_counter = enable_version_counter
        if every_n_train_steps is None and every_n_epochs is None and train_time_interval is None:
            every_n_epochs = 1
        self._every_n_train_steps = every_n_train_steps or 0
        self._every_n_epochs = every_n_epochs or 0
        self._train_time_interval = train_time_interval
        self._triggers = {
            "every_n_train_steps": self._every_n_train_steps,
            "every_n_epochs": self._every_n_epochs,
            "train_time_interval": train_time_interval,
        }
        rules.check_arguments(mode, monitor, save_top_k, save_last, self._triggers)
        self._last_saved_at_s = -math.inf
        self._step_seen = 0

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
        if not self._should_skip(trainer) and self._should_save_on_train_epoch_end(trainer):
            self._save_after_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save at the end of the validation, if that is the time to."""
        if not self._should_skip(trainer) and not self._should_save_on_train_epoch_end(trainer):
            self._save_after_epoch(trainer)

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
        return bool(
            trainer.fast_dev_run
            or trainer.state.fn != "fit"
            or trainer.sanity_checking
            or self._last_step_saved == trainer.global_step
        )

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

    def _save_after_epoch(self, trainer: Trainer) -> None:
        every = self._every_n_epochs
        if self._is_deferred or (every >= 1 and (trainer.current_epoch + 1) % every == 0):
            self._is_deferred = False
            self._save(trainer)

    def _save(self, trainer: Trainer, top_k: bool = True) -> None:
        """Save among the best, if it is one of them, and as the last.

        What the state says is settled before the first file is written: each file holds the state that
        includes itself.
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
        current = self._monitored(metrics)
        is_better = self.check_monitor_top_k(trainer, current)
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
        path = self.format_checkpoint_name(metrics, pattern)
        version = self.STARTING_VERSION
        while self._enable_version_counter and path != own and os.path.lexists(path):
            path = self.format_checkpoint_name(metrics, pattern, ver=version)
            version += 1
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
