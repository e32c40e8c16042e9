"""Hyperparameters from a YAML or CSV file, as a logger writes them: `load_from_checkpoint(hparams_file=...)`."""

from __future__ import annotations

import ast
import csv
import warnings
from argparse import Namespace
from io import StringIO
from pathlib import Path
from typing import Any

from lightkit.errors import ConfigError

_PYTHONS = "tag:yaml.org,2002:python/"


def read_file(path: str | Path, *, may_be_missing: bool = False) -> dict[str, Any]:
    """The names and values in a .yaml, .yml or .csv file; nothing in it is executed.

    may_be_missing: a file that is not there holds none, as in Lightning, with a warning.
    Raises ConfigError where the file is not there, of another kind, or holds no names with values.
    """
    file = Path(path) if isinstance(path, str) else path  # a file of a store has a path of its own kind
    where = f"load_from_checkpoint(hparams_file={str(path)!r})"
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise ConfigError(f"{where}: expected a .yaml, .yml or .csv file")
    if not file.is_file() and may_be_missing:
        warnings.warn(f"{where}: there is no such file, no hyperparameters are read", RuntimeWarning, stacklevel=2)
        return {}
    if not file.is_file():
        raise ConfigError(f"{where}: there is no such file")
    try:
        found = readers[file.suffix.lower()](file.read_text(encoding="utf-8-sig"))
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: expected names with values, found a {type(found).__name__}")
    return found


def _read_yaml(text: str) -> Any:
    import yaml

    from lightkit.plain_yaml import check_size

    class Loader(yaml.SafeLoader):
        """Knows those of Python's own tags that Lightning's files have for values; nothing is imported for another."""

    def as_tuple(loader: Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))

    def as_complex(loader: Loader, node: yaml.ScalarNode) -> complex:
        return complex(str(loader.construct_scalar(node)))

    def as_path(loader: Loader, node: yaml.SequenceNode) -> Path:
        return Path(*map(str, loader.construct_sequence(node)))

    def as_namespace(loader: Loader, node: yaml.MappingNode) -> Namespace:
        made = Namespace()
        vars(made).update((str(name), value) for name, value in loader.construct_mapping(node, deep=True).items())
        return made

    Loader.add_constructor(f"{_PYTHONS}tuple", as_tuple)
    Loader.add_constructor(f"{_PYTHONS}complex", as_complex)
    Loader.add_constructor(f"{_PYTHONS}object:argparse.Namespace", as_namespace)
    for module in ("pathlib", "pathlib._local"):  # of Python up to 3.12 and 3.13
        for kind in ("PosixPath", "WindowsPath"):
            Loader.add_constructor(f"{_PYTHONS}object/apply:{module}.{kind}", as_path)
    try:
        loader = Loader(text)
        if (node := loader.get_single_node()) is None:
            return {}
        check_size(node)
        found = loader.construct_document(node)
    except (yaml.YAMLError, KeyError, OverflowError) as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return {} if found is None else found


def _read_csv(text: str) -> dict[str, Any]:
    """Rows of a name and a value under a line of titles; a value is a Python literal, else text."""
    rows = list(csv.reader(StringIO(text, newline="")))[1:]
    if any(len(row) != 2 for row in rows):
        raise ValueError("expected rows of a name and a value")
    return {name: literal(value) for name, value in rows}


def literal(text: str) -> Any:
    """A text as the Python literal that it is, else as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
