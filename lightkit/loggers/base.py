"""What every logger is: where metrics, hyperparameters, images and texts of a run go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from lightkit.callbacks.base import Checkpoint
    from lightkit.settings import OnLogError

__all__ = ["Logger"]


class Logger:
    """Writes what a run measures. Override what the target can take; the rest does nothing.

    The names are those of Lightning 2.6; `log_figure` and the state are lightkit's. The trainer names the run
    directory before the first write, on a resumed fit (and only there) calls `load_state_dict`, and `finalize`
    at the end of each run.
    """

    @property
    def name(self) -> str | None:
        """The name of the experiment."""
        return None

    @property
    def version(self) -> int | str | None:
        """The version of the experiment: a number, or a word of the user's."""
        return None

    @property
    def save_dir(self) -> str | None:
        """The directory given by the user, None where the run directory is used."""
        return None

    @property
    def root_dir(self) -> str | None:
        """The directory above all versions of one experiment; None: `save_dir/name`, where there is a `save_dir`."""
        return None

    @property
    def log_dir(self) -> str | None:
        """The directory that this run's files are written to, None where nothing is written to disk."""
        return self.save_dir

    @property
    def group_separator(self) -> str:
        """What stands between a group and a name in the keys that this logger shows as groups."""
        return "/"

    @property
    def experiment(self) -> Any:
        """The object underneath that writes; made when first asked for."""
        return None

    def _attach_run_dir(self, run_dir: str | Path) -> None:
        """Set the run directory that this logger writes to, where the user gave no directory of their own."""

    def _attach_policy(self, on_log_error: OnLogError) -> None:
        """What happens where this logger cannot write: Trainer(on_log_error=...)."""

    def set_aside(self) -> None:
        """A run begins anew where an earlier start was killed before its first checkpoint: what that wrote is kept
        beside, and is no part of this run."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalar metrics, python floats, at a step."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write hyperparameters: a dict or a Namespace."""

    def log_graph(self, model: nn.Module, input_array: object = None) -> None:
        """Write the graph of the model, traced on `input_array` or its `example_input_array`."""

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None, **kwargs: Any) -> None:
        """Write images: a list of uint8 arrays (height, width, channels) or tensors (channels, h, w)."""

    def log_text(self, key: str, texts: Sequence[str] | str, step: int | None = None) -> None:
        """Write one or several texts."""

    def log_figure(self, key: str, figure: Any, step: int | None = None) -> None:
        """Write a matplotlib figure."""

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Called after a checkpoint callback has saved."""

    def save(self) -> None:
        """Write out what is held back in memory."""

    def finalize(self, status: str) -> None:
        """Write out and close; `status` is "success", "failed" or "interrupted". Writing again reopens."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the output, so that a resumed run goes on exactly there."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the position that `state_dict` returned; what was written after it leaves the run."""
