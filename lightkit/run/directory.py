"""One directory for everything a run produces: `<root>/runs/<name>/version_N`, or the one the user names.

It is made when a run that writes something begins; reading where it is makes nothing.
"""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from itertools import count
from pathlib import Path
from typing import Any

from lightkit.checkpoint.places import place, remote
from lightkit.errors import ConfigError, RunDirError

MARKER = "run.json"


class RunDirectory:
    """The directory of a Trainer's runs: where it will be, made at most once."""

    def __init__(self, root: str, explicit: str | Path | None, name: str | None, version: str):
        self.root, self.given_name, self.version = place(root), name, version
        self.explicit = None if explicit is None else place(explicit)
        self._made: Path | None = None
        self._planned: Path | None = None

    def adopt(self, checkpoint: Path) -> None:
        """Go on in the run directory that a checkpoint lies in, unless this Trainer has one of its own."""
        if self._made is None and self.explicit is None:
            # names of checkpoints may hold `/`, so it may lie deeper than in checkpoints/
            self._made = next((home for home in checkpoint.resolve().parents if _is_run(home)), None)

    def parent(self, default: str) -> Path:
        """Where the runs of that name are; default: the name where the user gave none."""
        return self.root / "runs" / (self.given_name or default)

    def look(self, default: str | None) -> Path:
        """Where it is or will be; makes nothing. default: the name where the user gave none, None: not known yet.

        Raises:
            ConfigError: no run has begun, and nothing says yet where it will be.
        """
        if self._made is not None:
            return self._made
        if self.explicit is not None:
            return self.explicit.resolve()
        if default is None:
            raise ConfigError(
                "trainer.run_dir: there is no run yet, so its directory is not known; read it in a hook or after "
                "trainer.fit(model), or choose it: Trainer(run_dir=...)"
            )
        if self._planned is None:
            parent = self.parent(default)
            self._planned = (parent / f"version_{_next_number(parent)}").resolve()
        return self._planned

    def make(self, default: str) -> Path:
        """Make the directory and its marker file, and return it; an explicit one may exist already.

        Raises:
            RunDirError: it cannot be written.
        """
        if self._made is not None:
            return self._made
        try:
            made = self.explicit or self._next_version(default)
            made.mkdir(parents=True, exist_ok=True)
            self._write_marker(made, default)
        except OSError as error:
            where, what = f"Trainer(run_dir={str(self.explicit)!r})", self.explicit
            if what is None:
                where, what = f"Trainer(default_root_dir={str(self.root)!r})", self.parent(default)
            raise RunDirError(
                f"{where}: the run directory {what} cannot be written: {error.strerror or error}; "
                "give a directory that you may write to"
            ) from error
        self._made = made.resolve()
        return self._made

    def end_of_fit(self) -> dict[str, Any]:
        """What `note_end` was given last; nothing where no fit came to its end here since one began."""
        where = self._made or self.explicit
        found = {} if where is None else _read_marker(where).get("finished")
        return found if isinstance(found, dict) else {}

    def note_end(self, end: dict[str, Any] | None) -> None:
        """A fit has come to its end here; None: one begins."""
        if self._made is None or not (content := _read_marker(self._made)):
            return
        noted = {**content, "fit": True, "finished": end}
        if noted != content:
            from lightkit.checkpoint import atomic

            try:
                atomic.replace(self._made / MARKER, lambda file: file.write(json.dumps(noted).encode() + b"\n"))
            except OSError as error:
                if end is None:  # what it says of the fit before would be taken for this one's
                    raise
                warnings.warn(
                    f"{error}; the fit has come to its end, only its directory does not say so, and resume='auto' "
                    "would go on from its newest checkpoint",
                    stacklevel=2,
                )

    def forget_plan(self) -> None:
        """Another run begins, which may be called otherwise."""
        self._planned = None

    def mark(self) -> None:
        """The run is over: where somebody has written to the directory that was to be, it is the run's."""
        planned, self._planned = self._planned, None
        if self._made is None and planned is not None and planned.is_dir():
            self._made = planned
            self._write_marker(planned, planned.parent.name)

    def _write_marker(self, path: Path, default: str) -> None:
        marker = path / MARKER
        if not marker.exists():
            marker.write_text(self._marker(default), encoding="utf-8")

    def _marker(self, default: str) -> str:
        name, created = self.given_name or default, time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return json.dumps({"name": name, "created": created, "lightkit": self.version}) + "\n"

    def _next_version(self, default: str) -> Path:
        parent = self.parent(default)
        parent.mkdir(parents=True, exist_ok=True)
        for version in count(_next_number(parent)):
            path = parent / f"version_{version}"
            if (marker := remote(path / MARKER)) is not None:  # a store may have no folders: the file takes the number
                if marker.create(self._marker(default).encode()):
                    return path
                continue
            with contextlib.suppress(FileExistsError):  # another process took the number just now
                path.mkdir()
                return path
        raise AssertionError("numbers do not end")


def _is_run(folder: Path) -> bool:
    """Whether a folder has the marker of a run, and not a file that happens to be called so."""
    try:
        return "lightkit" in json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _next_number(parent: Path) -> int:
    return next((int(p.name[8:]) + 1 for p in versions(parent)), 0)


def is_of_fit(path: Path) -> bool:
    """Whether a fit ran in a run directory, not a validation, a test or a prediction alone."""
    return (path / "checkpoints").is_dir() or "fit" in _read_marker(path)


def _read_marker(path: Path) -> dict[str, Any]:
    """What the marker of a run directory says; nothing where it says nothing that can be read."""
    try:
        content = json.loads((path / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def versions(parent: Path) -> list[Path]:
    """The run directories in there, the newest first."""
    found = [p for p in parent.glob("version_*") if p.name[8:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[8:]), reverse=True)
