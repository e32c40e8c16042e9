"""Files of hyperparameters, read and written as loggers write them."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError
from lightkit.hparams.text import literal, read_file
from lightkit.loggers.directory import plain

__all__ = [
    "convert", "load_hparams_from_tags_csv", "load_hparams_from_yaml", "save_hparams_to_tags_csv",
    "save_hparams_to_yaml", "update_hparams",
]  # fmt: skip


def load_hparams_from_yaml(config_yaml: str | Path, use_omegaconf: bool = True) -> Mapping[str, Any]:
    """The hyperparameters in a YAML file, nothing of which is executed; {} where there is no such file.

    use_omegaconf: where the file has interpolations (`${...}`) and OmegaConf is installed, a container of its own.
    """
    path = place(config_yaml)
    if not path.is_file():
        return {}
    found = read_file(path)
    if use_omegaconf and "${" in path.read_text(encoding="utf-8"):
        try:
            from omegaconf import OmegaConf
        except ImportError:
            return found
        made: Mapping[str, Any] = OmegaConf.create(found)
        return made
    return found


def save_hparams_to_yaml(
    config_yaml: str | Path, hparams: Mapping[str, Any] | Namespace, use_omegaconf: bool = True
) -> None:
    """Write hyperparameters, what has no plain form as its text; interpolations of OmegaConf stay as they are.

    Raises ConfigError where the folder is not there.
    """
    path = _target(config_yaml, "save_hparams_to_yaml")
    content: Any = hparams
    if use_omegaconf and type(hparams).__module__.startswith("omegaconf."):
        from omegaconf import OmegaConf

        content = OmegaConf.to_container(hparams, resolve=False)
    text = yaml.safe_dump(plain(content), sort_keys=False, allow_unicode=True)
    atomic.replace(path, lambda file: file.write(text.encode("utf-8")))


def load_hparams_from_tags_csv(tags_csv: str | Path) -> dict[str, Any]:
    """The hyperparameters in a file of lines `key,value`; {} where there is no such file."""
    path = place(tags_csv)
    return read_file(path) if path.is_file() else {}


def save_hparams_to_tags_csv(tags_csv: str | Path, hparams: Mapping[str, Any] | Namespace) -> None:
    """Write hyperparameters as lines `key,value`.

    Raises ConfigError where the folder is not there.
    """
    path = _target(tags_csv, "save_hparams_to_tags_csv")
    entries = vars(hparams) if isinstance(hparams, Namespace) else hparams
    text = StringIO(newline="")
    csv.writer(text).writerows([("key", "value"), *entries.items()])
    atomic.replace(path, lambda file: file.write(text.getvalue().encode("utf-8")))


def _target(path: str | Path, where: str) -> Path:
    found = place(path)
    if not found.parent.is_dir():
        raise ConfigError(f"{where}({str(path)!r}): the folder {found.parent} is not there")
    return found


def convert(val: str) -> Any:
    """A text as the Python literal that it is, else as it is."""
    return literal(val)


def update_hparams(hparams: dict[str, Any], updates: Mapping[str, Any]) -> None:
    """Put in new values, in place; dicts that both have are merged."""
    for name, value in updates.items():
        if isinstance(value, Mapping) and isinstance(hparams.get(name), dict):
            update_hparams(hparams[name], value)
        else:
            hparams[name] = value
