"""One directory for everything a run produces: `<root>/runs/<name>/version_N`, the user's, or the first logger's.

It is made when a run that writes something begins; reading where it is makes nothing. What says that it is a run's, and
how it is made: `run/marker.py`, imported when one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.loggers.calls import OwnPlace


class RunDirectory:
    """The directory of a Trainer's runs: where it will be, made at most once."""

    def __init__(self, root: str, explicit: str | Path | None, name: str | None, version: str):
        self.given_root, self.given, self.given_name, self.version = root, explicit, name, version
        self._made: Path | None = None
        self._planned: Path | None = None
        self._leader: object = None

    def follow(self, loggers: Sequence[object]) -> None:
        """Where the first logger has a place of its own, that is the run directory, unless the user named one."""
        self._leader = None
        if loggers and self.given is None and self.given_name is None:
            from lightkit.loggers.calls import has_own_place

            self._leader = loggers[0] if has_own_place(loggers[0]) else None

    @property
    def _led(self) -> OwnPlace | None:
        """The place of the logger that is followed."""
        if self._leader is None:
            return None
        from lightkit.loggers.calls import own_place

        return own_place(self._leader)

    @cached_property
    def root(self) -> Path:
        """Where the runs are."""
        from lightkit.checkpoint.places import place

        return place(self.given_root)

    @property
    def explicit(self) -> Path | None:
        """The directory that the user named, of the run or with a logger's version."""
        from lightkit.checkpoint.places import place

        led = self._led
        return place(self.given) if self.given is not None else led.folder if led is not None and led.is_fixed else None

    @property
    def _named(self) -> Path | None:
        """The directory that somebody named: the user, else the logger that is followed."""
        led = self._led
        return self.explicit or (None if led is None else led.folder)

    def adopt(self, checkpoint: Path) -> None:
        """Go on in the run directory that a checkpoint lies in, unless this Trainer has one of its own."""
        from lightkit.run.marker import is_run

        if self._made is None and self.explicit is None:
            # names of checkpoints may hold `/`, so it may lie deeper than in checkpoints/
            self._made = next((home for home in checkpoint.resolve().parents if is_run(home)), None)

    def parent(self, default: str) -> Path:
        """Where the runs of that name are; default: the name where the user gave none."""
        led = self._led
        return led.above if led is not None else self.root / "runs" / (self.given_name or default)

    def look(self, default: str | None) -> Path:
        """Where it is or will be; makes nothing. default: the name where the user gave none, None: not known yet.

        Raises:
            ConfigError: no run has begun, and nothing says yet where it will be.
        """
        if self._made is not None:
            return self._made
        if (found := self._named) is not None:
            return found.resolve()
        if default is None:
            raise ConfigError(
                "trainer.run_dir: there is no run yet, so its directory is not known; read it in a hook or after "
                "trainer.fit(model), or choose it: Trainer(run_dir=...)"
            )
        if self._planned is None:
            from lightkit.run.marker import next_number

            parent = self.parent(default)
            self._planned = (parent / f"version_{next_number(parent)}").resolve()
        return self._planned

    def make(self, default: str) -> Path:
        """Make the directory and its marker file, and return it; an explicit one may exist already.

        Raises:
            RunDirError: it cannot be written.
        """
        if self._made is None:
            from lightkit.run import marker

            content = marker.text(self.given_name or default, self.version)
            self._made = marker.make(self._named, self.parent(default), content, self.root, self._leader)
        return self._made

    def end_of_fit(self) -> dict[str, Any]:
        """See `marker.end_of_fit`."""
        from lightkit.run import marker

        where = self._made or self.explicit
        return {} if where is None else marker.end_of_fit(where)

    def note_end(self, end: dict[str, Any] | None) -> None:
        """A fit has come to its end here; None: one begins."""
        if self._made is not None:
            from lightkit.run import marker

            marker.note_end(self._made, end)

    def forget_plan(self) -> None:
        """Another run begins, which may be called otherwise."""
        self._planned = None

    def mark(self) -> None:
        """The run is over: where somebody has written to the directory that was to be, it is the run's."""
        planned, self._planned = self._planned, None
        if self._made is None and planned is not None and planned.is_dir():
            from lightkit.run import marker

            self._made = planned
            marker.write(planned, marker.text(self.given_name or planned.parent.name, self.version))
