"""How checkpoints are named: patterns filled in, names that are free, and where a file is that a name means."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import is_inside, is_url
from lightkit.errors import ConfigError

__all__ = ["check_name", "fill_pattern", "find_file", "first_free", "joined", "name_in", "replace_link"]


def check_name(name: str, where: str) -> None:
    """Raise ConfigError where a name of a file, or its pattern, would lead out of the folder or cannot be one."""
    problem = None
    if "\0" in name:
        problem = "a name of a file cannot hold a NUL character"
    elif os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
        problem = "names stay inside the folder of the checkpoints; give another folder as dirpath"
    if problem is not None:
        raise ConfigError(f"{where}: {problem}.")


def fill_pattern(pattern: str, metrics: Mapping[str, Any], equals: str | None) -> str:
    """Return the pattern with `{name}` and `{name:format}` filled in from the metrics, 0 where there is none.

    With `equals`, what stands between a name and its value, the name is written too: `epoch=3`.
    """

    def fill(match: re.Match[str]) -> str:
        name, spec = match[1], match[2] or ""
        label = "" if equals is None else f"{name}{equals}"
        return label + format(metrics.get(name, 0), spec[1:])

    return re.sub(r"\{([^{}:]*)(:[^{}]*)?\}", fill, pattern)


def joined(parts: tuple[str | None, ...], join: str) -> str:
    """Return the parts that there are as one name, which stays inside its folder; ConfigError where it does not."""
    name = join.join(part for part in parts if part is not None)
    check_name(name, f"ModelCheckpoint: the name {name!r}")
    return name


def first_free(path_of: Callable[[int | None], str], first: int, is_free: Callable[[str], bool]) -> str:
    """Return the first path that is free: without a version, then with `first`, `first + 1`, ..."""
    path, version = path_of(None), first
    while not is_free(path):
        path, version = path_of(version), version + 1
    return path


def name_in(root: str | Path, path: str) -> str:
    """Return a path relative to the folder `root`, with `/`, by its text alone; "" where it does not lie in there."""
    if "\0" in path:
        return ""
    if "://" in path:  # which is data: nobody asks its store
        name = path.removeprefix(f"{root}/") if path.startswith(f"{root}/") else "."
    else:
        try:
            name = Path(path).relative_to(str(root)).as_posix()
        except ValueError:
            return ""
    return "" if name == "." or ".." in name.split("/") else name


def find_file(path: str, then: str, now: str) -> str:
    """Return where a file that was in the folder `then` is in the folder `now`; "" where it was or would be elsewhere.

    Whether it is there is another question.
    """
    name = name_in(then, path)
    place = os.path.join(now, name)
    return place if name and is_inside(now, place) else ""


def replace_link(path: str, link: str) -> None:
    """Make `link` a symbolic link to `path`, in one move; a copy where the system or the store allows no links."""
    if is_url(link):
        atomic.copy(path, link)
        return
    partial = atomic.temporary_name(Path(link))
    try:
        os.symlink(os.path.relpath(path, os.path.dirname(link)), partial)
    except OSError:
        atomic.copy(path, link)
    else:
        os.replace(partial, link)
