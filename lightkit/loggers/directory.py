"""Where loggers that write files put them: in the run directory, or in a directory of the user's."""

from __future__ import annotations

import dataclasses
import os
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from lightkit.checkpoint import atomic
from lightkit.errors import ConfigError, RunDirError
from lightkit.hparams.kinds import fields_of
from lightkit.loggers.base import Logger

__all__ = ["DirectoryLogger", "flatten", "plain"]


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
    if isinstance(value, list | tuple):
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
    the run directory plays no part.
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
        self.hparams: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self._name

    @property
    def version(self) -> int | str | None:
        """The version: the one given, else that of the run directory, else the next free number."""
        if self._version is None:
            if self._save_dir is not None:
                self._version = _next_version(Path(self._save_dir, self._name))
            elif self._run_dir is not None:
                match = re.fullmatch(r"version_(\d+)", self._run_dir.name)
                return int(match[1]) if match else self._run_dir.name
        return self._version

    @property
    def save_dir(self) -> str | None:
        """The directory given by the user; None where the run directory is used."""
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
            log_dir = Path(self.root_dir or "", version if isinstance(version, str) else f"version_{version}")
        elif self._run_dir is not None:
            log_dir = self._run_dir
        else:
            return None
        return str(log_dir / self._sub_dir)

    def _attach_run_dir(self, run_dir: str | Path) -> None:
        """Set the run directory; does nothing where the user gave a `save_dir`."""
        if self._save_dir is None and Path(run_dir) != self._run_dir:
            self.finalize("success")
            self._run_dir = Path(run_dir)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Add hyperparameters, a dict or a Namespace, to `hparams.yaml`."""
        if params is None:
            return
        self.hparams.update(plain(params))
        text = yaml.safe_dump(self.hparams, sort_keys=False, allow_unicode=True, encoding="utf-8")
        atomic.replace(self._directory() / self.NAME_HPARAMS_FILE, lambda file: file.write(text))

    def state_dict(self) -> dict[str, Any]:
        """Return the version, so that a resumed run goes on in the same directory."""
        if self._save_dir is None or self._has_own_version:
            return {}
        return {"save_dir": self._save_dir, "name": self._name, "version": self.version}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the directory that was written to, where it is one of this logger's own numbered ones."""
        mine = {"save_dir": self._save_dir, "name": self._name}
        if not self._has_own_version and mine == {key: state_dict.get(key) for key in mine}:
            self._version = state_dict["version"]

    def _directory(self) -> Path:
        """Return the directory to write to, made where it does not exist."""
        log_dir, who = self.log_dir, type(self).__name__
        if log_dir is None:
            raise ConfigError(f"{who}: no directory to write to yet; pass {who}(save_dir=...) or hand it to a Trainer.")
        try:
            Path(log_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirError(f"{who}: cannot make the directory {log_dir}: {error}") from error
        return Path(log_dir)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}" if self._prefix else name


def _next_version(root: Path) -> int:
    """Return one more than the highest N of the directories `version_N` in `root`."""
    found = [re.fullmatch(r"version_(\d+)", entry.name) for entry in root.iterdir()] if root.is_dir() else []
    return max((int(match[1]) + 1 for match in found if match), default=0)
