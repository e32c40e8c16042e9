"""`run.json`, by which a directory is a run's: its name, when it was made, whether its fit has come to its end."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from itertools import count
from pathlib import Path
from typing import Any

from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import remote
from lightkit.errors import RunDirError

MARKER = "run.json"


def text(name: str, version: str) -> str:
    """What the marker of a run that begins says. version: lightkit's."""
    return json.dumps({"name": name, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "lightkit": version}) + "\n"


def write(path: Path, content: str) -> None:
    """Mark a directory, where it has no marker."""
    if not (marker := path / MARKER).exists():
        marker.write_text(content, encoding="utf-8")


def make(explicit: Path | None, parent: Path, content: str, root: Path, leader: object = None) -> Path:
    """Make the directory of a run and its marker: `explicit`, which may exist already, or the next version in `parent`.

    Raises:
        RunDirError: it cannot be written. root: what the user gave instead of `explicit`; leader: the logger whose
            place `explicit` is.
    """
    try:
        made = explicit or _next_version(parent, content)
        made.mkdir(parents=True, exist_ok=True)
        write(made, content)
    except OSError as error:
        where, what = f"Trainer(run_dir={str(explicit)!r})", explicit
        if leader is not None:
            where = f"{type(leader).__name__}(save_dir={str(getattr(leader, 'save_dir', ''))!r})"
        if what is None:
            where, what = f"Trainer(default_root_dir={str(root)!r})", parent
        raise RunDirError(
            f"{where}: the run directory {what} cannot be written: {error.strerror or error}; "
            "give a directory that you may write to"
        ) from error
    return made.resolve()


def read(path: Path) -> dict[str, Any]:
    """What the marker of a run directory says; nothing where it says nothing that can be read."""
    try:
        content = json.loads((path / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def end_of_fit(path: Path) -> dict[str, Any]:
    """What `note_end` was given last; nothing where no fit came to its end here since one began."""
    found = read(path).get("finished")
    return found if isinstance(found, dict) else {}


def note_end(path: Path, end: dict[str, Any] | None) -> None:
    """A fit has come to its end in this run directory; None: one begins."""
    if not (content := read(path)):
        return
    noted = {**content, "fit": True, "finished": end}
    if noted == content:
        return
    try:
        atomic.replace(path / MARKER, lambda file: file.write(json.dumps(noted).encode() + b"\n"))
    except OSError as error:
        if end is None:  # what it says of the fit before would be taken for this one's
            raise
        warnings.warn(
            f"{error}; the fit has come to its end, only its directory does not say so, and resume='auto' "
            "would go on from its newest checkpoint",
            stacklevel=2,
        )


def is_run(folder: Path) -> bool:
    """Whether a folder has the marker of a run, and not a file that happens to be called so."""
    return "lightkit" in read(folder)


def is_of_fit(path: Path) -> bool:
    """Whether a fit ran in a run directory, not a validation, a test or a prediction alone."""
    return (path / "checkpoints").is_dir() or "fit" in read(path)


def versions(parent: Path) -> list[Path]:
    """The run directories in there, the newest first."""
    found = [p for p in parent.glob("version_*") if p.name[8:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[8:]), reverse=True)


def next_number(parent: Path) -> int:
    """The number of the next version in there."""
    return next((int(p.name[8:]) + 1 for p in versions(parent)), 0)


def _next_version(parent: Path, content: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for version in count(next_number(parent)):
        path = parent / f"version_{version}"
        if (marker := remote(path / MARKER)) is not None:  # a store may have no folders: the file takes the number
            if marker.create(content.encode()):
                return path
            continue
        with contextlib.suppress(FileExistsError):  # another process took the number just now
            path.mkdir()
            return path
    raise AssertionError("numbers do not end")
