"""The one place that paths and URLs go through: `~` is expanded, a URL becomes a file of its store.

Whoever takes a path from outside asks `place` for it, and uses what it gets as a `pathlib.Path`. fsspec is imported
when the first URL is met.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.checkpoint.remote import RemotePath

# `s3://...`, also behind a cache of fsspec's: `simplecache::s3://...`. One letter is a drive of Windows.
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_COLLAPSED = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)


def place(path: str | os.PathLike[str]) -> Path:
    """Where a path or URL is: `~` expanded; a URL is a `RemotePath`, which does what a `Path` does.

    Raises:
        ConfigError: no store of that name, or a URL that went through `pathlib.Path`, which makes `s3:/b` of `s3://b`.
        MissingExtraError: the package for that store is not installed.
    """
    text = str(path) if remote(path) is not None else os.fspath(path)
    if (url := _URL.match(text)) is not None:
        if url[1].lower() in ("file", "local"):
            return Path(text[url.end() :])
        from lightkit.checkpoint.remote import RemotePath

        return cast(Path, RemotePath(text))
    collapsed = None if isinstance(path, str) else _COLLAPSED.match(text)
    if collapsed is not None and not os.path.exists(f"{collapsed[1]}:"):
        url_text = f"{collapsed[1]}://{text[collapsed.end() :]}"
        raise ConfigError(f"{path!r}: pathlib.Path takes a slash out of a URL; give the text {url_text!r}")
    return Path(os.path.expanduser(text))


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one of a store, not of this machine's disk."""
    return remote(place(path)) is not None


def is_inside(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Whether a file's folder lies in `root`, with all links followed but one that the file itself is.

    Of URLs the text decides whether they are of one store: a path may be what a file says, which nobody is asked about.
    """
    if not is_same_store(root, path):
        return False
    if (there := remote(place(root))) is not None:
        return there.resolve() in place(path).resolve().parents
    folder, parent = os.path.realpath(root), os.path.realpath(os.path.dirname(path))
    return parent == folder or parent.startswith(os.path.join(folder, ""))


def is_same_store(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both paths are on this machine's disk, or in one bucket or host of a store; by their text alone."""
    stores = []
    for path in (one, other):
        url = _URL.match(text := str(path))
        stores.append("" if url is None else text[: url.end()] + text[url.end() :].partition("/")[0])
    return stores[0] == stores[1]


def is_taken(path: str) -> bool:
    """Whether there is anything of that name, also a link that leads nowhere."""
    there = place(path)
    return os.path.lexists(there) if remote(there) is None else there.exists()


def remote(path: object) -> RemotePath | None:
    """The path, where it is one of a store; None where it is one of this machine."""
    module = sys.modules.get("lightkit.checkpoint.remote")  # where nobody has met a URL, there is none
    return path if module is not None and isinstance(path, module.RemotePath) else None


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A file of this machine with the same content, to be read: the file itself, or a download of it."""
    if (there := remote(path)) is None:
        yield path
        return
    with there.downloaded() as file:
        yield file


@contextlib.contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file of this machine to write to, for libraries that know no stores: uploaded when it is written."""
    if (there := remote(path)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with there.uploaded() as file:
        yield file
