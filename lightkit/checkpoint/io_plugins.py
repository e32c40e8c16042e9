"""How a user's own format takes part: a CheckpointIO saves, loads and removes the files of checkpoints."""

from __future__ import annotations

import os
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightkit.checkpoint import contents, files
from lightkit.checkpoint.async_write import AsyncWriter, Buffers, snapshot
from lightkit.checkpoint.places import place
from lightkit.checkpoint.writer import Writer
from lightkit.errors import CheckpointError, ConfigError

PathLike = str | os.PathLike[str]


class CheckpointIO(ABC):
    """Saves, loads and removes checkpoints; give it to `Trainer(plugins=[...])`.

    A checkpoint is a dict of plain values and tensors, which is to come back equal.
    """

    @abstractmethod
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write it; storage_options: those of `trainer.save_checkpoint`."""

    @abstractmethod
    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read it."""

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete it."""

    def teardown(self) -> None:
        """A run is over: let go of what was held for it."""


class TorchCheckpointIO(CheckpointIO):
    """lightkit's own format, torch's: written atomically, verified when it is read, holding no code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write it; raises ConfigError for storage_options, which this format has none of."""
        if storage_options is not None:
            raise ConfigError(
                f"save_checkpoint(storage_options={storage_options!r}): this format has none; write a CheckpointIO "
                "that takes them, and give it to Trainer(plugins=[...])"
            )
        files.save(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read and verify it, always without running code."""
        return files.load(path, map_location="cpu" if map_location is None else map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete it, where it is there."""
        place(path).unlink(missing_ok=True)


class AsyncCheckpointIO(CheckpointIO):
    """Lets another CheckpointIO save in a thread, one checkpoint after the other; what it saves was copied before.

    An error of the thread is raised by the next save, or at the end of the run. checkpoint_io: by default lightkit's
    own format, which the Trainer then writes as with `async_checkpoint=True`.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None):
        self.checkpoint_io = TorchCheckpointIO() if checkpoint_io is None else checkpoint_io
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._buffers = Buffers()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Copy it, wait for the save before, and begin to write."""
        self.wait()
        copied, ready = snapshot(checkpoint, self._buffers)

        def write() -> None:
            try:
                for event in ready:
                    event.synchronize()
                self.checkpoint_io.save_checkpoint(copied, path, storage_options)
            except BaseException as error:  # raised again where somebody waits
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the thread, and raise what went wrong in it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read it, once it is written."""
        self.wait()
        return self.checkpoint_io.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete it, once what is under way is written."""
        self.wait()
        self.checkpoint_io.remove_checkpoint(path)

    def teardown(self) -> None:
        """Wait, and let the other one go."""
        try:
            self.wait()
        finally:
            self.checkpoint_io.teardown()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_thread": None, "_error": None, "_buffers": Buffers()}  # a copy writes for another run


class PluginWriter(Writer):
    """Hands everything to a CheckpointIO. Its files bear no note, so a resumed run leaves older ones where they are."""

    def __init__(self, io: CheckpointIO):
        self.io = io

    def save(self, checkpoint: Mapping[str, Any], path: PathLike, note: Mapping[str, object] | None = None) -> None:
        """Make it plain, and let it be written.

        Raises CheckpointError for what cannot be saved.
        """
        target = place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.io.save_checkpoint(files.plain_for(checkpoint, path), str(target))

    def load(self, path: PathLike) -> dict[str, Any]:
        """What the CheckpointIO reads, checked as a file of lightkit's own is.

        Raises CheckpointError where that is no dict, or not of a checkpoint's form.
        """
        content = self.io.load_checkpoint(str(place(path)))
        if not isinstance(content, dict):
            raise CheckpointError(
                f"{type(self.io).__name__}.load_checkpoint({str(path)!r}) returned a {type(content).__name__}; "
                "expected the dict that was saved"
            )
        if "state_dict" in content:
            contents.check(content, str(path))
        return content

    def remove(self, path: str) -> None:
        """Let it be deleted."""
        self.io.remove_checkpoint(path)

    def wait(self) -> None:
        if isinstance(self.io, AsyncCheckpointIO):
            self.io.wait()

    def settle(self) -> None:
        self.wait()

    def finish(self) -> None:
        """The run is over; what could not be written is a warning where nobody waits any more."""
        try:
            self.settle()
        except Exception as error:
            warnings.warn(f"the last checkpoint was not written: {error}", stacklevel=2)
        self.io.teardown()

    def then(self, action: Callable[[], None]) -> None:
        self.wait()  # what is to follow may delete a file that is being replaced
        action()


def writer_for(io: CheckpointIO) -> Writer:
    """What writes with it: lightkit's own writers where the format is lightkit's own."""
    if type(io) is TorchCheckpointIO:
        return Writer()
    if type(io) is AsyncCheckpointIO and type(io.checkpoint_io) is TorchCheckpointIO:
        return AsyncWriter()
    return PluginWriter(io)
