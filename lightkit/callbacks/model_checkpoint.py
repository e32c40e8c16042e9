"""Save the best and the last checkpoints while training."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import yaml
from torch import Tensor

from lightkit.callbacks import checkpoint_names as names
from lightkit.callbacks import checkpoint_rules as rules
from lightkit.callbacks.base import Checkpoint
from lightkit.callbacks.checkpoint_folder import Claim, Folder, OwnFiles
from lightkit.checkpoint import atomic, places
from lightkit.errors import ConfigError
from lightkit.monitoring import begins, monitored_value, validates_once_an_epoch

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Checkpoint):
    """Saves checkpoints every so many epochs, steps or minutes, and keeps the `save_top_k` best.

    Arguments, defaults and file names are Lightning 2.6's. It saves at most once a step, never in a sanity
    check or with `fast_dev_run`. Names never leave its `dirpath`.

    What is due at one moment is one decision, that of other ModelCheckpoints of the Trainer included: every file of it
    holds the state after all of them. A run that was killed while they were written is resumed from any of them, and
    writes the others. A resumed run also removes from `dirpath` what it had written after the checkpoint that it goes
    on from, and what it had no time to remove. It deletes only files that it wrote itself, which say so, and never the
    one that the user named to resume from.

    As long as no validation has logged `monitor`, nothing is ranked: `last.ckpt` is saved, or without `save_last` one
    unranked file, which goes when a ranked one comes.

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
        every_n_train_steps, train_time_interval, every_n_epochs: when to save; at most one of them, also as "100step",
            "10min", "2epoch".
            Default: every epoch.
        save_on_train_epoch_end: at the end of the training epoch, not of the validation. Default: whichever comes last.
        enable_version_counter: add `-v1`, `-v2`, ... to a name that is taken; otherwise overwrite the file.

    Raises:
        ConfigError: an argument that cannot work; while running, a `monitor` that a validation did not log.
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
        auto_insert_metric_name: bool = True, every_n_train_steps: int | str | None = None,
        train_time_interval: timedelta | str | None = None, every_n_epochs: int | str | None = None,
        save_on_train_epoch_end: bool | None = None, enable_version_counter: bool = True, **earlier: Any,
    ) -> None:  # fmt: skip
        if earlier:
            from lightkit.earlier_arguments import CheckpointArguments, of_checkpoint

            now = CheckpointArguments(dirpath, filename, monitor, mode, every_n_epochs)
            dirpath, filename, monitor, mode, every_n_epochs = of_checkpoint(earlier, now, save_top_k)
        self._given_dirpath = None if dirpath is None else str(places.place(dirpath).resolve())
        self.dirpath: str | None = self._given_dirpath
        self.filename, self.monitor, self.mode = filename, monitor, mode
        self.save_top_k, self.verbose, self.save_last = save_top_k, verbose, save_last
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._enable_version_counter = enable_version_counter
        given = rules.triggers(every_n_train_steps, every_n_epochs, train_time_interval)
        is_given = any(t is not None for t in given.values())
        self._every_n_train_steps: int = given["every_n_train_steps"] or 0
        self._every_n_epochs: int = (given["every_n_epochs"] or 0) if is_given else 1
        self._train_time_interval: timedelta | None = given["train_time_interval"]
        own = {"every_n_train_steps": self._every_n_train_steps, "every_n_epochs": self._every_n_epochs}
        self._triggers = {**own, "train_time_interval": self._train_time_interval}
        rules.check_arguments(mode, monitor, filename, save_top_k, save_last, save_on_exception, given)
        self._begin()

    def _begin(self) -> None:
        """Nothing has been saved yet."""
        self._last_saved_at_s, self._step_seen = -math.inf, 0
        self.current_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path = ""
        self.kth_value = torch.tensor(self._worst)
        self.best_model_score: Tensor | None = None
        self.best_model_path = self.last_model_path = self._newest_file = ""
        self._unranked_file = ""  # stands in until there is a score
        self._last_step_saved = 0
        self._batches_saved: int | None = 0  # nothing to save before the first batch; None: an old file did not say
        # what a save waits for, at its step: the "validation" that comes next, or the end of the "epoch"
        self._waits_for: Literal["", "validation", "epoch"] = ""
        self._decided: tuple[object, ...] = ()  # where it was last asked whether to save
        self._scored_at = -1  # the step of a save that was due by steps: what is logged for it later is its score
        self._score, self._is_explained = math.nan, False  # of the last decision; of a score that is missing
        self._own = OwnFiles()
        self._said: Mapping[str, Any] | None = None  # of this callback, by the file that the fit goes on from

    @property
    def state_key(self) -> str:
        """The class with what may differ between two of them in one trainer."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode, **self._triggers)

    @property
    def every_n_epochs(self) -> int:
        """Every how many epochs it saves; 0: not by epochs at all."""
        return self._every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Find the directory to save in; forget what another Trainer's fit has saved."""
        if begins(trainer, stage) and trainer.ckpt_path is None:  # else `take_up` has been called, and the state comes
            self._begin()
        if stage == "fit" and self._given_dirpath is None and not trainer.fast_dev_run:
            self.dirpath = str((trainer.run_dir / "checkpoints").resolve())

    # ------------------------------------------------------------ when it saves

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Bring the folder to what the checkpoint says; start the clock of `train_time_interval`."""
        self._last_saved_at_s = time.monotonic()
        self._step_seen = trainer.global_step
        self._decided, self._is_explained = (), False
        if trainer.is_global_zero and not trainer.fast_dev_run and self.dirpath is not None:
            self._folder.tidy()
            self._reconcile(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where `every_n_train_steps` or `train_time_interval` says so."""
        if self._every_n_train_steps >= 1 or self._train_time_interval is not None:
            self._save_if(trainer, ModelCheckpoint._is_due_after_step, "on_train_batch_end")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save at the end of the training epoch, if that is the time to."""
        self._save_if(trainer, ModelCheckpoint._is_due_after_epoch, "on_train_epoch_end")

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save at the end of the validation, if that is the time to."""
        self._save_if(trainer, ModelCheckpoint._is_due_after_validation, "on_validation_end")

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Save where nothing was saved during the run: `last.ckpt`, and what still waits for a validation."""
        if self._newest_file or self._own.num_saves or self._should_skip(trainer):
            return
        waits = self._waits_for_validation(trainer)
        if not self.save_last and not waits:
            return
        metrics = rules.candidates(trainer)
        if waits and trainer.fit_loop.batches_done == 0:  # the counter has gone on to the next epoch
            metrics["epoch"] = torch.tensor(max(trainer.current_epoch - 1, 0))
        trainer.checkpoint_writer.settle()
        if waits:
            save = self._decide(trainer, metrics, set())
        else:
            save = self._settle(trainer, metrics, set(), saves_last=True)
        self._write_all(trainer, [save])

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None:
        """Save where `save_on_exception` says so, under the name of the pattern."""
        if not self.save_on_exception or not self._may_save(trainer):
            return
        if self._should_skip(trainer) and not self._own.has_failed_at(trainer.global_step):
            return
        metrics, taken = rules.candidates(trainer), set[str]()
        path = self._free_name(metrics, None, "", taken)
        # what was due at this step still is, where it goes on from here
        save = self._settle(trainer, metrics, taken, path, saves_last=bool(self.save_last), is_due=False)
        self._write_all(trainer, [save])
        trainer.print(f"ModelCheckpoint: saved {path} after {type(exception).__name__}: {exception}")

    def _may_save(self, trainer: Trainer) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run

    def _should_skip(self, trainer: Trainer) -> bool:
        """Whether nothing was trained since the last save, or nothing is ever to be saved."""
        if not self._may_save(trainer) or self._batches_saved is None:
            return not self._may_save(trainer) or self._last_step_saved == trainer.global_step
        return self._batches_saved == trainer.fit_loop.progress.total_batches

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

    def _is_due_after_step(self, trainer: Trainer) -> bool:
        """Whether to save now; where a score is about to be logged for this very step, the save waits for it."""
        step, every = trainer.global_step, self._every_n_train_steps
        if (every < 1 and self._train_time_interval is None) or step == self._step_seen:
            return False  # between micro-batches of one step, a checkpoint would lose the gradients so far
        self._step_seen = step
        if not (self._is_time() if every < 1 else step % every == 0) or self._should_skip(trainer):
            return False
        if self.monitor is None:
            return True
        loop, metrics = trainer.fit_loop, rules.candidates(trainer)
        is_last, is_missing = loop.batches_done >= trainer.num_training_batches, self.monitor not in metrics
        comes = loop.comes_validation() and not (is_last and self._should_save_on_train_epoch_end(trainer))
        self._scored_at = step
        self._waits_for = "validation" if comes else "epoch" if is_last else "validation" if is_missing else ""
        return not self._waits_for

    def _is_due_after_validation(self, trainer: Trainer) -> bool:
        if self._waits_for == "validation":
            if self.monitor not in trainer.callback_metrics:
                self._waits_for = "epoch"  # it may be one of the training's
            elif not self._should_skip(trainer):
                self._waits_for = ""
                return True
        return self._is_due(trainer, is_train_epoch_end=False)

    def _is_due_after_epoch(self, trainer: Trainer) -> bool:
        waited, self._waits_for = self._waits_for, ""
        return (waited != "" and not self._should_skip(trainer)) or self._is_due(trainer, is_train_epoch_end=True)

    def _is_due(self, trainer: Trainer, *, is_train_epoch_end: bool) -> bool:
        if self._scored_at == trainer.global_step and not self._waits_for and self._has_newer_score(trainer):
            return True
        if self._should_skip(trainer) or self._should_save_on_train_epoch_end(trainer) != is_train_epoch_end:
            return False
        every = self._every_n_epochs
        return every >= 1 and (trainer.current_epoch + 1) % every == 0

    def _has_newer_score(self, trainer: Trainer) -> bool:
        """Whether this step's save has a score from before: the data ended unforeseen, or the metric is the epoch's."""
        metrics = rules.candidates(trainer)
        return self._may_save(trainer) and self.monitor in metrics and self._score != float(self._monitored(metrics))

    def _waits_for_validation(self, trainer: Trainer) -> bool:
        """Whether a save was due, but for a validation that has never come."""
        p, every = trainer.fit_loop.progress, self._every_n_epochs
        if self.save_top_k == 0 or p.validated_at >= 0 or self._should_save_on_train_epoch_end(trainer):
            return False
        return every >= 1 and p.epoch + (p.batches_done > 0) >= every

    # ------------------------------------------------------------ what is saved: one decision

    def _save_if(self, trainer: Trainer, is_due: Callable[[ModelCheckpoint, Trainer], bool], hook: str) -> None:
        """Save where it is due, together with every other ModelCheckpoint for which it is due in the same hook."""
        if not is_due(self, trainer):
            return
        here, own = (hook, trainer.global_step, trainer.current_epoch), getattr(ModelCheckpoint, hook)
        # one with a hook of its own is asked there
        others = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        others = [c for c in others if c is self or getattr(type(c), hook) is own]
        due = [c for c in others if (c is self or is_due(c, trainer)) and c._decided != here]
        if not due:
            return
        trainer.checkpoint_writer.settle()  # names depend on the files that are there
        metrics, taken, saves = rules.candidates(trainer), set[str](), []
        for callback in due:
            saves.append(callback._decide(trainer, metrics, taken, here))
        self._write_all(trainer, saves)

    def _decide(
        self, trainer: Trainer, metrics: dict[str, Tensor], taken: set[str], here: tuple[object, ...] = ()
    ) -> rules.Save | None:
        """Settle what the state says and what is to be done; None: nothing.

        taken: names given out at this moment. here: the moment.
        """
        self._decided = here
        if self.monitor is not None and self.monitor not in metrics:
            self._check_no_validation(trainer, metrics)
            if self.save_last:
                return self._settle(trainer, metrics, taken, saves_last=True)
            return self._stand_in(trainer, metrics, taken) if self.save_top_k != 0 else None
        redone = ""
        if self.monitor is not None:
            self._score = float(self._monitored(metrics))
            if self._scored_at == trainer.global_step == self._last_step_saved:
                redone = next((p for p in self.best_k_models if self._own.kept.get(p) == self._own.num_saves), "")
                self.best_k_models.pop(redone, None)
                self._rank()
        if not self._should_keep(trainer, metrics):
            if not redone and (not self.save_last or (self.save_last == "link" and self.save_top_k != 0)):
                return None
            return self._settle(trainer, metrics, taken, leaving=(redone,), saves_last=bool(self.save_last))
        path, left = self._rank_new(trainer, metrics, taken, redone)
        leaving, self._unranked_file = (left, redone, self._unranked_file), ""
        return self._settle(trainer, metrics, taken, path, leaving, saves_last=bool(self.save_last))

    def _settle(
        self, trainer: Trainer, metrics: dict[str, Tensor], taken: set[str], path: str = "",
        leaving: Iterable[str] = (), *, saves_last: bool, is_due: bool = True,
    ) -> rules.Save:  # fmt: skip
        """Count a save, and note what is kept from now on. is_due: it is the one of this step."""
        last, before = "", ""
        if saves_last:
            before = self.last_model_path
            last = self.last_model_path = self._free_name(metrics, self.CHECKPOINT_NAME_LAST, before, taken)
        kept = [p for p in ("" if self._keeps_all else path, last) if p]
        gone = self._own.count(kept, (*leaving, before))
        if is_due:
            p = trainer.fit_loop.progress
            self._last_step_saved, self._batches_saved = p.global_step, p.total_batches
        return rules.Save(self, path, last, self.save_last == "link" and bool(path), gone)

    def _stand_in(self, trainer: Trainer, metrics: dict[str, Tensor], taken: set[str]) -> rules.Save:
        """Save without a score, in the place of what was saved so before."""
        before, pattern = self._unranked_file, "{epoch}" + self.CHECKPOINT_JOIN_CHAR + "{step}"
        self._unranked_file = self._free_name(metrics, pattern, before, taken)
        return self._settle(trainer, metrics, taken, self._unranked_file, (before,), saves_last=False)

    def _check_no_validation(self, trainer: Trainer, metrics: dict[str, Tensor]) -> None:
        """Say once that there is no score yet; an error where a validation has run, which did not log it."""
        if trainer.fit_loop.progress.validated_at >= 0:
            self._monitored(metrics)
        if not self._is_explained:
            self._is_explained = True
            what = "last is saved" if self.save_last else "the newest is kept" if self.save_top_k else "none is saved"
            rules.warn_no_score(self.monitor, what)

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

    def _rank_new(self, trainer: Trainer, metrics: dict[str, Tensor], taken: set[str], redone: str) -> tuple[str, str]:
        """Put a new file among the best; -> its path, and the one that no longer is."""
        if self.monitor is None:
            left = self.best_model_path if self.save_top_k == 1 else ""
            self.best_model_path = path = self._free_name(metrics, None, left, taken)
            return path, left
        is_full = 0 < self.save_top_k <= len(self.best_k_models)
        left = self.kth_best_model_path if is_full else ""
        self.best_k_models.pop(left, None)
        path = self._free_name(metrics, None, redone or left, taken)
        self.current_score = self._monitored(metrics)
        self.best_k_models[path] = self.current_score
        self._rank()
        if self.verbose:
            self._say(trainer, metrics, f"is among the best {self.save_top_k}; saving {path}")
        return path, left

    @property
    def _keeps_all(self) -> bool:
        """Whether files are kept without a list of them."""
        return self.save_top_k == -1 and self.monitor is None

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

    # ------------------------------------------------------------ files

    @property
    def _folder(self) -> Folder:
        assert self.dirpath is not None
        return self._folder_at(self.dirpath)

    def _folder_at(self, root: str | Path) -> Folder:
        pattern, last = self.format_checkpoint_name({}), self.format_checkpoint_name({}, self.CHECKPOINT_NAME_LAST)
        depths = (len(Path(os.path.relpath(path, self.dirpath or ".")).parts) - 1 for path in (pattern, last))
        return Folder(root, depths, self.FILE_EXTENSION)

    def folders_in(self, root: Path) -> list[Path]:
        """As Checkpoint.folders_in: names that hold `/` make sub-folders."""
        return self._folder_at(root).folders()

    def claim(self, global_step: int) -> dict[str, Any] | None:
        """As Checkpoint.claim."""
        if not self._own.identity:
            return None
        unranked = self._folder.name_of(self._unranked_file)
        note = rules.Note(unranked, self._waits_for, self._scored_at, self._score, self._batches_saved)
        return {**self._own.claim(self._folder, global_step).plain(), **vars(note)}

    def _write_all(self, trainer: Trainer, saves: Iterable[rules.Save | None]) -> None:
        """Write the files of one moment, then remove what they replace."""
        found = [save for save in saves if save is not None]
        for save in found:
            save.by._own.begin(save.by._folder, trainer.global_step, save.paths)
        of_kind: dict[bool, str] = {}  # with weights alone, or everything: all files of a kind hold the same
        for save in found:
            kind = save.by.save_weights_only
            for path in [save.path] if save.is_link else save.paths:
                save.by._write(trainer, path, copy_of=of_kind.setdefault(kind, path))
            if save.is_link and trainer.is_global_zero:
                trainer.checkpoint_writer.then(partial(names.replace_link, save.path, save.last))
                save.by._own.know(save.last)
        for save in found:
            for path in save.leaving:
                save.by._remove(trainer, path)
            save.by._own.end()

    def _write(self, trainer: Trainer, path: str, *, copy_of: str) -> None:
        """Save a file; copy_of: one that was saved just now and holds the same."""
        self._newest_file = path
        if copy_of == path or not trainer.checkpoint_writer.copy(copy_of, path):
            trainer.save_checkpoint(path, self.save_weights_only)
        self._own.know(path)
        if trainer.is_global_zero:
            for target in trainer._records.targets() if trainer.loggers else ():
                trainer.checkpoint_writer.afterwards(partial(target.after_save_checkpoint, self))

    def _remove(self, trainer: Trainer, path: str) -> None:
        """Delete a file of ours in our folder."""
        if trainer.is_global_zero and self._own.owns(self._folder, path):
            (w := trainer.checkpoint_writer).then(partial(self._own.remove, self._folder, path, w.remove))

    def _free_name(self, metrics: Mapping[str, Tensor], pattern: str | None, own: str, taken: set[str]) -> str:
        """Return the path to save to: one that no file has, or `own`, which will be replaced."""

        def is_free(path: str) -> bool:
            if path in taken or not self._enable_version_counter or not places.is_taken(path):
                return path not in taken
            return path == own and self._own.owns(self._folder, path)

        path_of = partial(self.format_checkpoint_name, metrics, pattern)
        path = names.first_free(lambda version: path_of(ver=version), self.STARTING_VERSION, is_free)
        if not self._folder.holds(path):
            raise ConfigError(
                f"ModelCheckpoint: {path} is not inside {self.dirpath}, a link leads out of it; names stay inside the "
                "folder of the checkpoints"
            )
        taken.add(path)
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
        parts = (prefix, names.fill_pattern(pattern, metrics, equals), None if ver is None else f"v{ver}")
        name = names.joined(parts, self.CHECKPOINT_JOIN_CHAR)
        return os.path.join(self.dirpath or "", name + self.FILE_EXTENSION)

    def file_exists(self, filepath: str | Path, trainer: Trainer) -> bool:
        """Whether a file is there, in the store of its path."""
        return places.is_taken(str(filepath))

    # ------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept and how good it is."""
        return {
            "monitor": self.monitor, "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path, "current_score": self.current_score, "dirpath": self.dirpath,
            # numbers: a tensor is a part of the file of its own, and there may be one for each file that is kept
            "best_k_models": {path: float(score) for path, score in self.best_k_models.items()},
            "kth_best_model_path": self.kth_best_model_path, "kth_value": self.kth_value,
            "last_model_path": self.last_model_path, "newest_file": self._newest_file,
            "last_step_saved": self._last_step_saved, "is_deferred": bool(self._waits_for),
        }  # fmt: skip

    def take_up(self, path: Path, said: Mapping[str, Any] | None, *, is_named: bool) -> None:
        """As Checkpoint.take_up."""
        self._said = said
        claim = Claim("") if said is None else Claim.of(said)
        self._own.take_up(str(places.place(path).resolve()), claim, is_named=is_named)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the checkpoints that were kept; files that are gone leave the list, with a warning.

        Where the run directory was moved, they are where they were in it. Paths are data: those that do not lie in
        `dirpath`, with all links followed, are forgotten; but for files in the folder of then that say to be its own.
        """
        rules.check_state(state_dict)
        then, own, state = state_dict.get("dirpath") or "", self._own, state_dict.get
        own.load(self.state_key, then)
        is_elsewhere = then and then != self.dirpath and places.is_same_store(then, self.dirpath or "")
        elsewhere = self._folder_at(then) if is_elsewhere else None

        def here(path: str) -> str:
            """Where a file is now, or will be; "" where it is gone."""
            now = names.find_file(path, then, self.dirpath) if then and self.dirpath else ""
            if now and (places.place(now).exists() or own.is_pending(names.name_in(then, path))):
                return now
            is_ours = elsewhere is not None and (own.owns(elsewhere, path) or elsewhere.bears(path, self.state_key))
            return path if is_ours else ""

        kept, best = state("best_k_models", {}), state("best_model_path", "")
        double = torch.float64  # holds every number that a metric of any precision had
        self.best_k_models = {now: torch.as_tensor(v, dtype=double) for p, v in kept.items() if (now := here(p))}
        rules.warn_gone([path for path in dict.fromkeys([*kept, best]) if path and not here(path)])
        self.current_score = None if state("current_score") is None else torch.as_tensor(state("current_score"))
        self.kth_value = torch.as_tensor(self._worst if state("kth_value") is None else state("kth_value"))
        if self.monitor is None:
            self.best_model_path = here(best)
        else:
            self._rank()
        self.last_model_path, self._newest_file = here(state("last_model_path", "")), here(state("newest_file", ""))
        self._last_step_saved = state("last_step_saved", 0)
        note = rules.Note.of(self._said, waits="validation" if state("is_deferred") else "")
        self._unranked_file = here(os.path.join(then, note.unranked)) if note.unranked else ""
        self._waits_for, self._scored_at, self._score, self._said = note.waits_for, note.scored_at, note.score, None
        self._batches_saved = note.batches
        own.find_kept(here)

    def _reconcile(self, trainer: Trainer) -> None:
        """Bring the folder to the moment of the checkpoint that the fit goes on from."""
        make_up = partial(self._make_up, trainer)
        later, gone = self._own.reconcile(self._folder, keeps_all=self._keeps_all, make_up=make_up)
        if later and (start := self._own.named_by_user):
            trainer.print(
                f"ModelCheckpoint: {len(later)} checkpoint(s) saved after {start} are removed, the run goes on from "
                f"there: {', '.join(later)}"
            )
        rules.warn_gone([path for path in gone if path in self.best_k_models or path == self.best_model_path])
        for path in gone:
            self._forget(path)

    def _make_up(self, trainer: Trainer, path: str, resumed_from: str, pending: list[str]) -> None:
        """Write a file of the moment of the checkpoint; all files of one moment hold the same."""
        target = next((p for p in pending if p != path), "")
        if self.save_last == "link" and path == self.last_model_path and target:
            names.replace_link(target, path)
        elif self.save_weights_only:
            self._own.begin(self._folder, trainer.global_step, pending)
            trainer.save_checkpoint(path, True)
            trainer.checkpoint_writer.settle()
            self._own.end()
        else:
            atomic.copy(resumed_from, path)

    def _forget(self, path: str) -> None:
        """A file of ours is not there any more, or is another one's."""
        self.best_k_models.pop(path, None)
        if self.monitor is not None:
            self._rank()
        elif self.best_model_path == path:
            self.best_model_path = ""
        self.last_model_path = "" if self.last_model_path == path else self.last_model_path
        self._unranked_file = "" if self._unranked_file == path else self._unranked_file

    def to_yaml(self, filepath: str | Path | None = None) -> None:
        """Write the paths of the kept checkpoints with their scores to `best_k_models.yaml`."""
        if filepath is None:
            assert self.dirpath is not None
            filepath = places.place(self.dirpath) / "best_k_models.yaml"
        scores = {path: float(score) for path, score in self.best_k_models.items()}
        places.place(filepath).write_text(yaml.safe_dump(scores), encoding="utf-8")
