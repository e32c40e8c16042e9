"""Metrics, hyperparameters, images and the graph for TensorBoard."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.devices.example import left_as_found, to_device_of
from lightkit.errors import ConfigError, require
from lightkit.loggers.directory import DirectoryLogger, flatten, plain

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(DirectoryLogger):
    """Writes event files that `tensorboard --logdir DIR` shows; hyperparameters also to `hparams.yaml`.

    On a resume, TensorBoard is told to forget what was written after the checkpoint (`purge_step`).

    Args:
        save_dir, name, version: where to write; see `DirectoryLogger`. Default: the run directory.
        log_graph: also write the graph of a module that has an `example_input_array`.
        default_hp_metric: write a metric `hp_metric` of -1 with the hyperparameters, without which
            TensorBoard's tab of hyperparameters stays empty.
        prefix: put before every name, with a `-`.
        sub_dir: a directory inside this run's, for the event files.
        **kwargs: passed on to `torch.utils.tensorboard.SummaryWriter`, such as `max_queue`, `flush_secs`.
    """

    def __init__(
        self, save_dir: str | Path | None = None, name: str | None = "lightning_logs",
        version: int | str | None = None, log_graph: bool = False, default_hp_metric: bool = True, prefix: str = "",
        sub_dir: str | Path | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(save_dir, name, version, prefix, sub_dir)
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._writer_args = kwargs
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = kwargs.pop("purge_step", None)
        self._reset()

    def _reset(self) -> None:
        self._max_step = -1
        self._newest: dict[str, float] = {}  # the scalars written at the highest step
        self._has_media_at_newest = False
        self._has_hparams = False  # whether the tab of hyperparameters is written

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_writer": None}  # a copy opens a file of its own when it writes

    def _attach_run_dir(self, run_dir: str | Path) -> None:
        before = self._run_dir
        super()._attach_run_dir(run_dir)
        if self._run_dir != before:
            self._reset()

    @property
    def experiment(self) -> SummaryWriter:
        """The SummaryWriter; made, with its event file, when first asked for."""
        if self._writer is None:
            directory = self._directory()
            require("tensorboard", "all", needed_by="TensorBoardLogger")
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(directory), purge_step=self._purge_step, **self._writer_args)
            self._purge_step = None
        return self._writer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write scalars; a dict as a value is written as one chart of several curves."""
        writer = self.experiment
        step = self._at(step)
        for name, value in metrics.items():
            key = self._key(name)
            if isinstance(value, dict):
                writer.add_scalars(key, value, step)
                continue
            if not isinstance(value, float | int) and not hasattr(value, "item"):
                raise ConfigError(f"TensorBoardLogger: metric {key!r}: expected a number, got {value!r}.")
            number = float(value)
            writer.add_scalar(key, number, step)
            if step == self._max_step:
                self._newest[key] = number

    def log_hyperparams(
        self, params: Any, metrics: Mapping[str, float] | float | None = None, step: int | None = None
    ) -> None:
        """Write hyperparameters to `hparams.yaml` and to TensorBoard's tab of hyperparameters.

        Args:
            params: a dict or Namespace, possibly nested.
            metrics: what to compare runs by, shown beside them; a number is named `hp_metric`.
        """
        super().log_hyperparams(params)
        if metrics is None:
            metrics = {"hp_metric": -1.0} if self._default_hp_metric else {}
        elif not isinstance(metrics, Mapping):
            metrics = {"hp_metric": metrics}
        if params is None or not metrics or self._has_hparams:
            return
        self._has_hparams = True
        writer = self.experiment
        for name, value in metrics.items():
            writer.add_scalar(self._key(name), float(value), step or 0)
        from torch.utils.tensorboard.summary import hparams

        shown = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flatten(plain(params)).items()
        }
        for summary in hparams(shown, dict(metrics)):
            writer._get_file_writer().add_summary(summary, step)

    def log_graph(self, model: nn.Module, input_array: object = None) -> None:
        """Write the module's graph, traced on `input_array` or `example_input_array`, if `log_graph` is set.

        The module is traced in evaluation mode; its modes and the random state are left as they were.
        """
        if not self._log_graph:
            return
        input_array = getattr(model, "example_input_array", None) if input_array is None else input_array
        if input_array is None:
            problem = "the module has no example_input_array: no graph written."
            warnings.warn(f"TensorBoardLogger(log_graph=True): {problem}", stacklevel=2)
            return
        inputs, writer = to_device_of(model, input_array), self.experiment
        try:
            with left_as_found(model), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's own, about shapes
                writer.add_graph(model, inputs)
        except Exception as error:  # tracing may raise anything; a picture is no reason to stop training
            warnings.warn(f"TensorBoardLogger(log_graph=True): cannot trace the module: {error}", stacklevel=3)

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None, **kwargs: Any) -> None:
        """Write images; several are numbered `key/0`, `key/1`, ...

        Args:
            images: uint8 arrays (height, width, channels) or (height, width), or tensors
                (channels, height, width), floats between 0 and 1 or uint8.
        """
        step = self._at(step, is_media=True)
        for index, image in enumerate(images):
            ndim = getattr(image, "ndim", 0)
            if ndim not in (2, 3):
                where = f"TensorBoardLogger.log_image({key!r})"
                raise ConfigError(f"{where}: expected images of 2 or 3 dimensions, got {ndim}.")
            is_tensor = hasattr(image, "detach")
            layout = "HW" if ndim == 2 else "CHW" if is_tensor else "HWC"
            tag = self._key(key if len(images) == 1 else f"{key}/{index}")
            self.experiment.add_image(tag, image.detach() if is_tensor else image, step, dataformats=layout)

    def log_text(self, key: str, texts: Sequence[str] | str, step: int | None = None) -> None:
        """Write one or several texts; several stand one below the other."""
        text = texts if isinstance(texts, str) else "\n\n".join(texts)
        self.experiment.add_text(self._key(key), text, self._at(step, is_media=True))

    def log_figure(self, key: str, figure: Any, step: int | None = None) -> None:
        """Write a matplotlib figure as an image; the figure stays open."""
        self.experiment.add_figure(self._key(key), figure, self._at(step, is_media=True), close=False)

    def save(self) -> None:
        """Write what is held in memory to the event file."""
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:
        """Write and close the event file; writing again opens another one in the same directory."""
        if self._writer is not None:
            self._writer.close()  # which writes what is held
            self._writer = None

    def state_dict(self) -> dict[str, Any]:
        """Return the highest step written, and its scalars, after writing to the file what is held."""
        self.save()
        state = {**super().state_dict(), "max_step": self._max_step}
        return state if self._has_media_at_newest else {**state, "newest": dict(self._newest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have TensorBoard forget what was written after the position of the checkpoint."""
        self.finalize("interrupted")
        super().load_state_dict(state_dict)
        self._max_step = state_dict.get("max_step", -1)
        self._newest = dict(state_dict.get("newest", {}))
        self._has_media_at_newest = "newest" not in state_dict
        # TensorBoard purges whole steps only: the highest step is purged too and its scalars, which may have
        # been added to after the checkpoint, are written again. Images are not kept, so their step stays.
        self._purge_step = self._max_step + 1 if self._has_media_at_newest else max(self._max_step, 0)
        if self.log_dir is None:
            return
        self._has_hparams = any(Path(self.log_dir).glob("events.out.tfevents.*"))
        for key, value in self._newest.items():
            self.experiment.add_scalar(key, value, self._max_step)

    def _at(self, step: int | None, is_media: bool = False) -> int:
        """Return the step to write at, and note it where it is the highest so far."""
        if step is None:
            step = max(self._max_step, 0)
        if step > self._max_step:
            self._max_step, self._newest, self._has_media_at_newest = step, {}, False
        self._has_media_at_newest |= is_media and step == self._max_step
        return step
