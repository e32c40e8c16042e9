"""One directory for everything a run produces: `<root>/runs/<name>/version_N`, or the one the user names."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lightkit.errors import RunDirError

MARKER = "run.json"


def make(root: Path, name: str, explicit: Path | None, version: str) -> Path:
    """Make the directory and its marker file, and return it; an explicit one may exist already.

    Raises:
        RunDirError: it cannot be written.
    """
    try:
        path = _claim(explicit) if explicit is not None else _next_version(root / "runs" / name)
        marker = path / MARKER
        if not marker.exists():
            created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            marker.write_text(
                json.dumps({"name": name, "created": created, "lightkit": version}) + "\n", encoding="utf-8"
            )
        return path
    except OSError as error:
        where = (
            f"Trainer(run_dir={str(explicit)!r})"
            if explicit is not None
            else f"Trainer(default_root_dir={str(root)!r})"
        )
        what = explicit if explicit is not None else root / "runs" / name
        raise RunDirError(
            f"{where}: the run directory {what} cannot be written: {error.strerror or error}; "
            "give a directory that you may write to"
        ) from error


def _claim(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def _next_version(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name[8:]) for p in parent.glob("version_*") if p.name[8:].isdigit()]
    version = max(taken, default=-1) + 1
    while True:
        path = parent / f"version_{version}"
        try:
            path.mkdir()  # fails where another process took the number just now
            return path.resolve()
        except FileExistsError:
            version += 1


def of_checkpoint(path: Path) -> Path | None:
    """The run directory that a checkpoint lies in, or None where it lies elsewhere."""
    for parent in list(path.resolve().parents)[:2]:
        if (parent / MARKER).is_file():
            return parent
    return None


def earlier(root: Path, name: str) -> list[Path]:
    """Run directories of that name, the newest first."""
    found = [p for p in (root / "runs" / name).glob("version_*") if p.name[8:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[8:]), reverse=True)
