"""One directory for everything a run produces: `<root>/runs/<name>/version_N`, or the one the user names.

It is made when a run that writes something begins; reading where it is makes nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from lightkit.errors import ConfigError, RunDirError

MARKER = "run.json"


class RunDirectory:
    """The directory of a Trainer's runs: where it will be, made at most once."""

    def __init__(self, root: Path, explicit: Path | None, name: str | None, version: str):
        self.root, self.explicit, self.given_name, self.version = root, explicit, name, version
        self._made: Path | None = None
        self._planned: Path | None = None

    def adopt(self, path: Path) -> None:
        """Go on in the directory of a checkpoint, unless this Trainer has one of its own."""
        if self._made is None and self.explicit is None:
            self._made = path

    def name(self, default: str) -> str:
        """What runs are called under `<root>/runs/`."""
        return self.given_name or default

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
            parent = self.root / "runs" / self.name(default)
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
            parent = self.root / "runs" / self.name(default)
            self._made = _next_version(parent) if self.explicit is None else _claim(self.explicit)
            self._write_marker(self._made, default)
        except OSError as error:
            self._made = None
            raise self._cannot_write(error, default) from error
        return self._made

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
            content = {
                "name": self.name(default), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "lightkit": self.version
            }  # fmt: skip
            marker.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _cannot_write(self, error: OSError, default: str) -> RunDirError:
        where, what = f"Trainer(run_dir={str(self.explicit)!r})", self.explicit
        if what is None:
            where, what = f"Trainer(default_root_dir={str(self.root)!r})", self.root / "runs" / self.name(default)
        return RunDirError(
            f"{where}: the run directory {what} cannot be written: {error.strerror or error}; "
            "give a directory that you may write to"
        )


def _claim(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def _next_version(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    version = _next_number(parent)
    while True:
        path = parent / f"version_{version}"
        try:
            path.mkdir()  # fails where another process took the number just now
            return path.resolve()
        except FileExistsError:
            version += 1


def _next_number(parent: Path) -> int:
    taken = [int(p.name[8:]) for p in parent.glob("version_*") if p.name[8:].isdigit()]
    return max(taken, default=-1) + 1


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
