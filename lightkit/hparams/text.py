"""Hyperparameters from a YAML or CSV file, as a logger writes them: `load_from_checkpoint(hparams_file=...)`."""

from __future__ import annotations

import ast
import csv
from pathlib import Path
from typing import Any

from lightkit.errors import ConfigError


def read_file(path: str | Path) -> dict[str, Any]:
    """The names and values in a .yaml, .yml or .csv file; nothing in it is executed.

    Raises ConfigError where the file is not there, of another kind, or holds no names with values.
    """
    file = Path(path) if isinstance(path, str) else path  # a file of a store has a path of its own kind
    where = f"load_from_checkpoint(hparams_file={str(path)!r})"
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise ConfigError(f"{where}: expected a .yaml, .yml or .csv file")
    if not file.is_file():
        raise ConfigError(f"{where}: there is no such file")
    try:
        found = readers[file.suffix.lower()](file.read_text(encoding="utf-8"))
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: expected names with values, found a {type(found).__name__}")
    return found


def _read_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows the two of Python's own tags that Lightning's files have for plain values."""

    def as_tuple(loader: Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))

    def as_complex(loader: Loader, node: yaml.ScalarNode) -> complex:
        return complex(str(loader.construct_scalar(node)))

    Loader.add_constructor("tag:yaml.org,2002:python/tuple", as_tuple)
    Loader.add_constructor("tag:yaml.org,2002:python/complex", as_complex)
    try:
        found = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if found is None else found


def _read_csv(text: str) -> dict[str, Any]:
    """Rows of a name and a value under a line of titles; a value is a Python literal, else text."""
    rows = list(csv.reader(text.splitlines()))[1:]
    if any(len(row) != 2 for row in rows):
        raise ValueError("expected rows of a name and a value")
    return {name: _literal(value) for name, value in rows}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
