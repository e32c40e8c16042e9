"""What loggers on top of another package have in common: where files go, checkpoints, what happens when it fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError, LightkitError, RunDirError, require
from lightkit.loggers.base import Logger
from lightkit.loggers.directory import plain

if TYPE_CHECKING:
    from lightkit.callbacks.base import Checkpoint
    from lightkit.settings import OnLogError

LogModel = Literal["all"] | bool


@dataclass(frozen=True)
class SavedFile:
    """A checkpoint as it is handed on: the file, its score where one was monitored, whether it is the best."""

    path: Path
    score: float | None
    is_best: bool


class ServiceLogger(Logger):
    """Base of loggers that write through another package.

    Its files go to the run directory, or to the `save_dir` of the user's. What fails in it stops the training or is one
    warning, as Trainer(on_log_error=...) says; without a Trainer it is raised.

    log_model: "all": each checkpoint is handed on when it is saved; True: those that are kept, at the end of a run that
        succeeded.
    """

    LOGGER_JOIN_CHAR = "-"
    package: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self, save_dir: str | Path | None, prefix: str, log_model: LogModel) -> None:
        if find_spec(self.package) is None:
            require(self.package, self.extra, needed_by=type(self).__name__)
        if log_model not in (True, False, "all"):
            raise ConfigError(f"{type(self).__name__}(log_model={log_model!r}): expected True, False or 'all'.")
        self._save_dir = None if save_dir is None else str(place(save_dir))
        self._run_dir: Path | None = None
        self._prefix, self._log_model = prefix, log_model
        self._on_error: OnLogError = "raise"
        self._has_failed = False
        self._num_lost = 0
        self._saving: list[Checkpoint] = []
        self._handed_on: dict[Path, float] = {}  # when each file was written

    @property
    def has_own_place(self) -> bool:
        """Whether the user gave a directory."""
        return self._save_dir is not None

    @property
    def save_dir(self) -> str | None:
        """The directory given by the user, else the run directory; None before it is known."""
        return self._save_dir if self._run_dir is None or self._save_dir is not None else str(self._run_dir)

    @property
    def log_dir(self) -> str | None:
        """Where the package writes its files."""
        return self.save_dir

    def _attach_run_dir(self, run_dir: str | Path) -> None:
        self._run_dir = place(run_dir)

    def _attach_policy(self, on_log_error: OnLogError) -> None:
        self._on_error = on_log_error

    def _folder(self) -> Path:
        """Where the package writes its files, made where it does not exist."""
        who = type(self).__name__
        if self.save_dir is None:
            raise ConfigError(f"{who}: no directory to write to yet; pass {who}(save_dir=...) or hand it to a Trainer.")
        folder = place(self.save_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirError(f"{who}: cannot make the directory {folder}: {error}") from error
        return folder

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What fails in here stops the training, or is a warning, the first time."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:  # packages raise classes of their own, and those of what they stand on
            self._num_lost += 1
            if self._on_error == "raise":
                raise
            if not self._has_failed:
                self._has_failed = True
                reason = str(error) if isinstance(error, LightkitError) else f"{type(error).__name__}: {error}"
                warnings.warn(
                    f"{type(self).__name__}: {reason}; the training goes on, what comes later is tried again, and the "
                    "end says how much is missing (Trainer(on_log_error='raise') stops instead)",
                    stacklevel=5,
                )

    def _say_what_is_missing(self) -> None:
        if self._num_lost and self._has_failed:
            num_lost, self._num_lost, self._has_failed = self._num_lost, 0, False
            who = type(self).__name__
            warnings.warn(f"{who}: {num_lost} calls failed, and what they gave is missing", stacklevel=4)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}" if self._prefix else name

    # ------------------------------------------------------------ checkpoints

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Hand on what was saved, or remember whom to ask at the end; see `log_model`."""
        keeps_all = getattr(checkpoint_callback, "save_top_k", None) == -1
        if self._log_model == "all" or (self._log_model and keeps_all):
            with self._guarded():
                self._hand_on(checkpoint_callback)
        elif self._log_model and checkpoint_callback not in self._saving:
            self._saving.append(checkpoint_callback)

    def _hand_on(self, callback: Checkpoint) -> None:
        best = callback.best_model_path
        scores: dict[str, object] = dict(getattr(callback, "best_k_models", {}))
        scores.setdefault(best, getattr(callback, "best_model_score", None))
        scores.setdefault(getattr(callback, "last_model_path", ""), None)
        found = [(path, score) for name, score in scores.items() if name and (path := Path(name)).is_file()]
        for path, score in sorted(found, key=lambda pair: pair[0].stat().st_mtime):
            written = path.stat().st_mtime
            if self._handed_on.get(path) != written:
                number = None if score is None else float(score)  # type: ignore[arg-type]
                self._log_file(SavedFile(path, number, str(path) == best), callback)
                self._handed_on[path] = written

    def _log_file(self, saved: SavedFile, callback: Checkpoint) -> None:
        """Hand on one checkpoint."""

    def _hand_on_kept(self, status: str) -> None:
        saving, self._saving = self._saving, []
        if status == "success":
            for callback in saving:
                with self._guarded():
                    self._hand_on(callback)


def plain_params(params: Any) -> dict[str, Any]:
    """Hyperparameters, a dict or a Namespace or None, as plain values."""
    found: object = {} if params is None else plain(params)
    if not isinstance(found, dict):
        raise ConfigError(f"log_hyperparams: expected a dict or a Namespace, got {type(params).__name__}.")
    return found
