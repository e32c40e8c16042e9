"""Where loggers that write files put them: in the run directory, or in a directory of the user's."""

from __future__ import annotations

import dataclasses
import os
import re
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml

from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import is_inside, place, remote
from lightkit.errors import ConfigError, RunDirError
from lightkit.hparams.kinds import fields_of
from lightkit.loggers.base import Logger

if TYPE_CHECKING:
    from lightkit.checkpoint.remote import Mirror
    from lightkit.settings import OnLogError

__all__ = ["DirectoryLogger", "flatten", "plain"]

_DEFAULT_NAME = "lightning_logs"
_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\0]+")


PUBLISH_EVERY_S = 60.0


def plain(value: Any) -> Any:
    """Return `value` made of dicts, lists, strings, numbers, booleans and None; the rest becomes its text."""
    if value is None or isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, Namespace | SimpleNamespace):
        return plain(vars(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(fields_of(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if hasattr(value, "tolist") and type(listed := value.tolist()) is not type(value):  # a longdouble's is itself
        return plain(listed)  # of numpy and torch, scalars too
    return str(value)


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict, the keys joined by `/`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class DirectoryLogger(Logger):
    """Base of loggers that write files: they know their directory and keep the hyperparameters.

    Without `save_dir`, files go straight into the run directory that the trainer attaches. With it, they go
    into `save_dir/name/version_N` (`save_dir/name/VERSION` where `version` is a word), as in Lightning, and
    the run directory plays no part. Both may be URLs (`s3://bucket/runs`): files are written in a temporary folder
    and uploaded once a minute, before each checkpoint and at the end.

    Where a file cannot be written, the Trainer's `on_log_error` says whether that stops the training; without a Trainer
    it is a RunDirError. A subclass writes inside of `with self._io():`.
    """

    LOGGER_JOIN_CHAR = "-"
    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self, save_dir: str | Path | None = None, name: str | None = "lightning_logs",
        version: int | str | None = None, prefix: str = "", sub_dir: str | Path | None = None,
    ) -> None:  # fmt: skip
        self._save_dir = None if save_dir is None else os.path.expandvars(os.path.expanduser(save_dir))
        self._name = name or ""
        self._version = version
        self._has_own_version = version is not None
        self._prefix = prefix
        self._sub_dir = "" if sub_dir is None else os.fspath(sub_dir)
        self._run_dir: Path | None = None
        self._mirror: Mirror | None = None  # where the directory is in a store
        self._published_at_s, self._is_unpublished = time.monotonic(), False
        self._on_error: OnLogError = "raise"
        self._problem = ""  # the first thing that could not be written, and why
        self._has_unwritten_hparams = self._has_hparams_file = False
        self.hparams: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_mirror": None}

    @property
    def has_own_place(self) -> bool:
        """Whether the user gave a directory; without one, files go to the run directory."""
        return self._save_dir is not None

    @property
    def has_own_version(self) -> bool:
        """Whether the user gave a version."""
        return self._has_own_version

    @property
    def name(self) -> str:
        """The name of the experiment; in a run directory, where none was given, that of its runs."""
        if self._save_dir is None and self._run_dir is not None and self._name == _DEFAULT_NAME:
            return self._run_dir.parent.name
        return self._name

    @property
    def version(self) -> int | str | None:
        """The version: the one given, else that of the run directory, else the next free number."""
        if self._version is None:
            if self._save_dir is not None:
                self._version = _next_version(place(self._save_dir) / self._name)
            elif self._run_dir is not None:
                match = re.fullmatch(r"version_(\d+)", self._run_dir.name)
                return int(match[1]) if match else self._run_dir.name
        return self._version

    @property
    def save_dir(self) -> str | None:
        """The directory given by the user, else the one in which the runs of all names are; None before it is known.

        `save_dir/name/version_N` is where the files are in either case.
        """
        if self._save_dir is None and self._run_dir is not None:
            return str(self._run_dir.parent.parent)
        return self._save_dir

    @property
    def root_dir(self) -> str | None:
        """The directory that holds all versions of this experiment."""
        if self._save_dir is not None:
            return os.path.join(self._save_dir, self._name) if self._name else self._save_dir
        return None if self._run_dir is None else str(self._run_dir.parent)

    @property
    def log_dir(self) -> str | None:
        """The directory that this logger writes to; None before it is known."""
        if self._save_dir is not None:
            version = self.version
            log_dir = place(self.root_dir or "") / (version if isinstance(version, str) else f"version_{version}")
        elif self._run_dir is not None:
            log_dir = self._run_dir
        else:
            return None
        return str(log_dir / self._sub_dir)

    def _attach_run_dir(self, run_dir: str | Path) -> None:
        """Set the run directory; does nothing where the user gave a `save_dir`."""
        if self._save_dir is None and place(run_dir) != self._run_dir:
            self.finalize("success")
            self._run_dir, self._has_hparams_file = place(run_dir), False

    def _attach_policy(self, on_log_error: OnLogError) -> None:
        """See Logger."""
        self._on_error = on_log_error

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Add hyperparameters, a dict or a Namespace, to `hparams.yaml`; None: there are none."""
        self.hparams.update({} if params is None else plain(params))
        self._has_unwritten_hparams = True
        self._write_hparams()

    def _write_hparams(self) -> None:
        text = yaml.safe_dump(self.hparams, sort_keys=False, allow_unicode=True, encoding="utf-8")
        with self._io():
            atomic.replace(self._place() / self.NAME_HPARAMS_FILE, lambda file: file.write(text))
            self._has_unwritten_hparams, self._has_hparams_file = False, True

    def save(self) -> None:
        """Write `hparams.yaml` where it is due; an empty one where a local directory has none."""
        if self._has_unwritten_hparams:
            self._write_hparams()
        elif not self._has_hparams_file and self.log_dir is not None:
            found = self._place()
            if remote(found) is None and found.is_dir():
                self._has_hparams_file = (found / self.NAME_HPARAMS_FILE).exists()
                if not self._has_hparams_file:
                    self._write_hparams()

    def state_dict(self) -> dict[str, Any]:
        """Return the version, so that a resumed run goes on in the same directory."""
        if self._save_dir is None or self._has_own_version:
            return {}
        return {"save_dir": self._save_dir, "name": self._name, "version": self.version}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the directory that was written to, where it is one of this logger's own numbered ones."""
        from lightkit.schema import TEXT, WHOLE, Record, optional

        where = {"save_dir": optional(TEXT), "name": optional(TEXT), "version": optional(WHOLE, TEXT)}
        Record({}, where).check(state_dict)
        mine = {"save_dir": self._save_dir, "name": self._name}
        if not self._has_own_version and mine == {key: state_dict.get(key) for key in mine}:
            self._version = self._checked(state_dict.get("version"))

    def _checked(self, version: int | str | None) -> int | str | None:
        """A version as a checkpoint may name it: a number or one plain name, whose directory lies in this logger's.

        Raises:
            StateError: it would lead elsewhere.
        """
        root, name = place(self.root_dir or ""), version if isinstance(version, str) else f"version_{version}"
        is_plain = version >= 0 if isinstance(version, int) else _PLAIN_NAME.fullmatch(name) is not None
        if version is None or (is_plain and (remote(root) is not None or is_inside(root, root / name / "file"))):
            return version
        from lightkit.schema import StateError

        problem = f"expected a number or a plain name of a directory in {root}, found {version!r}"
        raise StateError(problem, "version")

    def _place(self) -> Path:
        """Where this logger's files are; ConfigError where that is not known yet."""
        log_dir, who = self.log_dir, type(self).__name__
        if log_dir is None:
            raise ConfigError(f"{who}: no directory to write to yet; pass {who}(save_dir=...) or hand it to a Trainer.")
        return place(log_dir)

    def _directory(self) -> Path:
        """The directory to write to, made where it does not exist; for a store, a local one: see `_publish`."""
        found = self._place()
        if (there := remote(found)) is not None:
            if self._mirror is None or self._mirror.there != there:
                from lightkit.checkpoint.remote import Mirror

                self._mirror = Mirror(there)
            return self._mirror.folder
        try:
            found.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirError(f"{type(self).__name__}: cannot make the directory {found}: {error}") from error
        return found

    def _publish(self) -> None:
        """Upload what was written, where the directory is in a store."""
        if self._mirror is None:
            return
        self._published_at_s, self._is_unpublished = time.monotonic(), True
        try:
            self._mirror.push()
            self._is_unpublished = False
        except OSError as error:  # what is written here is not lost by that
            self._report(error)

    def _publish_is_due(self) -> bool:
        """Whether the last upload was a minute ago."""
        return self._mirror is not None and time.monotonic() - self._published_at_s >= PUBLISH_EVERY_S

    # ------------------------------------------------------------ where writing fails

    @contextmanager
    def _io(self) -> Iterator[None]:
        """What cannot be written in here stops the training, or is a warning, as the Trainer's `on_log_error` says."""
        try:
            yield
        except OSError as error:
            self._take_failure()
            self._report(error)

    def _report(self, error: OSError) -> None:
        reason = str(error)
        if not isinstance(error, RunDirError):  # which says where
            reason = f"{type(self).__name__}: cannot write to {self._place()}: {error.strerror or error}"
        if self._on_error == "raise":
            raise error if isinstance(error, RunDirError) else RunDirError(reason) from error
        if not self._problem:
            self._problem = reason
            warnings.warn(
                f"{reason}; the training goes on, what comes later is tried again, and the end says what is missing "
                "(Trainer(on_log_error='raise') stops instead)",
                stacklevel=5,
            )

    def _take_failure(self) -> None:
        """Something could not be written: let go of what is broken, count what is lost."""

    def _missing(self) -> list[str]:
        """What could not be written since the run began, in words; forgotten after that."""
        missing = [self.NAME_HPARAMS_FILE] if self._has_unwritten_hparams else []
        if self._is_unpublished and self._mirror is not None:
            missing.append(f"what was logged since the last upload, which is kept in {self._mirror.keep()}")
        self._is_unpublished = False
        return missing

    def _say_what_is_missing(self) -> None:
        """The end of a run: one warning where something was lost for good."""
        if not self._problem:
            return
        missing, problem, self._problem = self._missing(), self._problem, ""
        self._has_unwritten_hparams = False
        if missing:
            where = f"{type(self).__name__}: missing in {self._place()}"
            warnings.warn(f"{where}: {', '.join(missing)}; the reason: {problem}", stacklevel=4)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}" if self._prefix else name


def _next_version(root: Path) -> int:
    """Return one more than the highest N of the directories `version_N` in `root`."""
    found = [re.fullmatch(r"version_(\d+)", entry.name) for entry in root.iterdir()] if root.is_dir() else []
    return max((int(match[1]) + 1 for match in found if match), default=0)
