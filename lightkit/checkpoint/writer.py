"""What writes checkpoints: the base of all writers, and the one that writes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


class Writer:
    """Writes checkpoints at once: when `save` returns, the file is there."""

    def save(
        self, checkpoint: Mapping[str, object], path: str | os.PathLike[str], note: Mapping[str, object] | None = None
    ) -> None:
        """Write a checkpoint; see `files.save`."""
        from lightkit.checkpoint import files

        files.save(checkpoint, path, note)

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read and verify a checkpoint; see `files.load`."""
        from lightkit.checkpoint import files

        return files.load(path)

    def remove(self, path: str) -> None:
        """Delete the file of a checkpoint, where it is there."""
        from lightkit.checkpoint.places import place

        place(path).unlink(missing_ok=True)

    def then(self, action: Callable[[], None]) -> None:
        """Do something once everything saved so far is in its file: here, now."""
        action()

    def copy(self, source: str, target: str) -> bool:
        """Let `target` become a copy of a file saved just now; False: save it again instead."""
        return False

    def afterwards(self, action: Callable[[], None]) -> None:
        """As `then`, in the thread that trains: at the latest when the next checkpoint is saved or the run ends."""
        action()

    def wait(self) -> None:
        """Wait until everything saved so far is in its file."""

    def settle(self) -> None:
        """Wait, and raise what kept the last file from being written."""

    def finish(self) -> None:
        """Wait at the end of a run that failed already: what kept the last file from being written is a warning."""
