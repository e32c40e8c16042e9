"""Save a checkpoint where an error ends the fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Checkpoint
from lightkit.callbacks.checkpoint_names import check_name
from lightkit.checkpoint import files, places
from lightkit.errors import ConfigError, NonFiniteError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["OnExceptionCheckpoint"]


class OnExceptionCheckpoint(Checkpoint):
    """Saves `<dirpath>/<filename>.ckpt` when an exception, Ctrl-C included, ends a fit that has trained a batch.

    Names and arguments are Lightning 2.6's. The file is exact: the training goes back to between two steps before it is
    saved, and `trainer.fit(model, ckpt_path=callback.ckpt_path)` goes on to the bit. A file of an earlier one is
    replaced. When a later fit comes to its end the file is removed, where it says that this callback wrote it. A loss
    or weights that are NaN or infinite are not saved.

    Args:
        dirpath: the folder, or a URL.
        filename: the name without `.ckpt`.

    Raises:
        ConfigError: an empty name, or one that leads out of the folder.
    """

    FILE_EXTENSION = ".ckpt"
    save_on_exception = True
    ranks = False

    def __init__(self, dirpath: str | Path, filename: str = "on_exception") -> None:
        if not filename:
            raise ConfigError("OnExceptionCheckpoint(filename=''): expected the name of a file without its ending")
        check_name(filename, f"OnExceptionCheckpoint(filename={filename!r})")
        self.dirpath: str | None = str(places.place(dirpath))
        self.filename = filename
        self._is_saving = False

    @property
    def ckpt_path(self) -> str:
        """The file that is saved."""
        return str(self._path)

    @property
    def _path(self) -> Path:
        assert self.dirpath is not None
        return places.place(self.dirpath) / (self.filename + self.FILE_EXTENSION)

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None:
        """Save, where there is anything that is worth it."""
        if trainer.state.fn != "fit" or isinstance(exception, NonFiniteError):
            return
        if trainer.fit_loop.progress.total_batches == 0:
            return
        self._is_saving = True
        try:
            trainer.save_checkpoint(self.ckpt_path)
        finally:
            self._is_saving = False

    def claim(self, global_step: int) -> dict[str, Any] | None:
        """As Checkpoint.claim."""
        return {"on_exception": self.filename} if self._is_saving else None

    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """After a fit that came to its end nobody needs the file of one that did not."""
        if stage != "fit" or trainer.state.status != "finished" or not trainer.is_global_zero:
            return
        path = self._path
        if path.is_file():
            claims = (files.saved_by(path) or {}).values()
            if any(isinstance(said, dict) and said.get("on_exception") == self.filename for said in claims):
                path.unlink()
