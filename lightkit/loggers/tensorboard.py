"""Metrics, hyperparameters, images and the graph for TensorBoard."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.devices.example import left_as_found, to_device_of
from lightkit.errors import ConfigError, RunDirError, require
from lightkit.loggers.directory import DirectoryLogger, flatten

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger"]

_MOST_AT_ONE_STEP = 10_000  # scalars that are kept, to be written again on a resume
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 600.0  # before a file is tried again


class TensorBoardLogger(DirectoryLogger):
    """Writes event files that `tensorboard --logdir DIR` shows; hyperparameters also to `hparams.yaml`.

    On a resume, TensorBoard is told to forget what was written after the checkpoint (`purge_step`). Event files of a
    run that was killed before its first checkpoint, and is started again with `ckpt_path="last"`, are renamed to
    `events.out.before_resume_K...`, which TensorBoard does not show.

    Where events cannot be written, as for a full disk, they are lost; a new file is tried ten seconds later, then
    after ever longer pauses of up to ten minutes.

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
        self._newest: list[tuple[str, float]] = []  # the scalars written at the highest step
        self._has_media_at_newest = False
        self._placeholders: set[str] = set()  # metrics that stand beside the hyperparameters until they are logged
        self._hparams_metrics: set[str] = set()  # that stand beside the hyperparameters
        self._hparams_step: int | None = None  # of the tab of hyperparameters; None: it is not written
        self._curves_end: int | None = None  # the first step that is none of the checkpoint's
        self._curves_cut: set[str] = set()
        self._num_unsaved = self._num_lost = 0  # values that may not be in the file yet, that will never be
        self._waits_until_s, self._pause_s = -math.inf, _FIRST_PAUSE_S

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_writer": None}  # a copy opens a file of its own when it writes

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
            if self._num_lost:  # a writer that finds the disk full leaves a thread behind
                _check_room(directory)
            require("tensorboard", "all", needed_by="TensorBoardLogger")
            before = self._event_files() if self._purge_step is not None else set()
            self._writer = self._open(directory)
            if before and min(own := _names_in(directory) - before, default="") < max(before):
                # files are read by name, which begins with the second: what is to be forgotten must come before
                self._writer.close()
                for name in own:
                    (directory / name).unlink()
                time.sleep(1 - time.time() % 1)
                self._writer = self._open(directory)
            self._purge_step = None
        return self._writer

    def _open(self, directory: Path) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(directory), purge_step=self._purge_step, **self._writer_args)

    def _event_files(self) -> set[str]:
        """The names of those that are there, also where they are in a store."""
        return _names_in(self._place()) | _names_in(self._directory())

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write scalars; a dict as a value is written as one chart of several curves."""
        step = self._at(step)

        def write(writer: SummaryWriter) -> None:
            for name, value in metrics.items():
                key = self._key(name)
                if isinstance(value, dict):
                    self._forget_curves(writer, key, value)
                    writer.add_scalars(key, value, step)
                    continue
                if not isinstance(value, float | int) and not hasattr(value, "item"):
                    raise ConfigError(f"TensorBoardLogger: metric {key!r}: expected a number, got {value!r}.")
                number = float(value)
                writer.add_scalar(key, number, step)
                if step == self._max_step:
                    self._note(key, number)

        self._write(len(metrics), write)

    def _forget_curves(self, writer: SummaryWriter, key: str, curves: Mapping[str, Any]) -> None:
        """On a resume: each curve of a chart of several has an event file of its own, in which later steps are, too."""
        if self._curves_end is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard.writer import FileWriter

        files: dict[str, FileWriter] = writer.all_writers or {}
        for name in curves:
            folder = f"{writer.get_logdir()}/{key.replace('/', '_')}_{name}"  # as add_scalars has it
            if folder not in self._curves_cut:
                self._curves_cut.add(folder)
                if any(f".{int(time.time())}." in before for before in _names_in(Path(folder))):
                    time.sleep(1 - time.time() % 1)  # files are read by name, which begins with the second
                file = FileWriter(folder, writer.max_queue, writer.flush_secs, writer.filename_suffix)
                file.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=self._curves_end)
                files[folder] = file

    def log_hyperparams(
        self, params: Any = None, metrics: Mapping[str, float] | float | None = None, step: int | None = None
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
        is_shown = self._hparams_step is not None and metrics.keys() <= self._hparams_metrics
        if params is None or not metrics or is_shown:
            return
        # a value that was logged under that name is the newer one
        seen = {key for key, _ in self._newest}
        fresh = {
            name: value for name, value in metrics.items()
            if self._key(name) not in seen and name not in self._hparams_metrics
        }  # fmt: skip
        self._hparams_metrics |= metrics.keys()
        if fresh:
            self.log_metrics(fresh, step or 0)
            self._placeholders |= {self._key(name) for name in fresh}
        from torch.utils.tensorboard.summary import hparams

        shown = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flatten(self.hparams).items()
        }

        def write(writer: SummaryWriter) -> None:
            for summary in hparams(shown, dict.fromkeys(sorted(self._hparams_metrics), 0)):
                writer._get_file_writer().add_summary(summary, step)
            self._hparams_step = step or 0

        self._write(1, write)

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
        inputs = to_device_of(model, input_array)

        def write(writer: SummaryWriter) -> None:
            with left_as_found(model), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's own, about shapes
                writer.add_graph(model, inputs)

        try:
            self._write(1, write)
        except RunDirError:
            raise
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
            shown = image.detach() if is_tensor else image
            self._write(1, partial(_add_image, tag, shown, step, layout))

    def log_text(self, key: str, texts: Sequence[str] | str, step: int | None = None) -> None:
        """Write one or several texts; several stand one below the other."""
        text = texts if isinstance(texts, str) else "\n\n".join(texts)
        step = self._at(step, is_media=True)
        self._write(1, lambda writer: writer.add_text(self._key(key), text, step))

    def log_figure(self, key: str, figure: Any, step: int | None = None) -> None:
        """Write a matplotlib figure as an image; the figure stays open."""
        step = self._at(step, is_media=True)
        self._write(1, lambda writer: writer.add_figure(self._key(key), figure, step, close=False))

    def _write(self, num_values: int, write: Callable[[SummaryWriter], object]) -> None:
        """Give the writer some values; where it cannot write, as `_io`, and they are lost."""
        if time.monotonic() < self._waits_until_s:
            self._num_lost += num_values
            return
        self._num_unsaved += num_values
        with self._io():
            write(self.experiment)
            if self._publish_is_due():
                self._flush()

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()
            self._publish()
            self._num_unsaved, self._pause_s = 0, _FIRST_PAUSE_S

    def save(self) -> None:
        """Write what is held in memory to the event file."""
        with self._io():
            self._flush()
        super().save()

    def finalize(self, status: str) -> None:
        """Write and close the event file; writing again opens another one in the same directory."""
        try:
            self.save()
            with self._io():
                if self._writer is not None:
                    self._writer.close()
                    self._publish()
        finally:
            self._writer = None
        self._num_lost, self._num_unsaved = self._num_lost + self._num_unsaved, 0
        self._say_what_is_missing()

    def _take_failure(self) -> None:
        writer, self._writer = self._writer, None
        files: dict[str, Any] = {} if writer is None else writer.all_writers or {}
        self._waits_until_s, self._pause_s = time.monotonic() + self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._num_lost, self._num_unsaved = self._num_lost + self._num_unsaved, 0
        for file in files.values():
            with suppress(Exception):  # what it still holds cannot be written; its thread ends
                file.close()

    def _missing(self) -> list[str]:
        num_lost, self._num_lost = self._num_lost, 0
        return [*([f"up to {num_lost} values"] if num_lost else []), *super()._missing()]

    def set_aside(self) -> None:
        """See Logger: the event files are renamed."""
        self.finalize("interrupted")
        self._reset()
        if self.log_dir is None:
            return
        with self._io():
            folder = self._place()
            taken = [path.name for path in folder.glob("events.out.before_resume_*")]
            number = next(k for k in count(1) if not any(f".before_resume_{k}." in name for name in taken))
            for pattern in ("events.out.tfevents.*", "*/events.out.tfevents.*"):  # below: of charts of several curves
                for path in list(folder.glob(pattern)):
                    path.replace(path.with_name(path.name.replace(".tfevents.", f".before_resume_{number}.", 1)))

    def state_dict(self) -> dict[str, Any]:
        """Return the highest step written, and its scalars, after writing to the file what is held."""
        self.save()
        state = {**super().state_dict(), "max_step": self._max_step, "hparams_step": self._hparams_step}
        state["hparams_metrics"] = sorted(self._hparams_metrics)
        if self._has_media_at_newest:
            return state
        keys, values = ([pair[index] for pair in self._newest] for index in (0, 1))
        return {**state, "newest": dict(self._newest), "newest_keys": keys, "newest_values": values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have TensorBoard forget what was written after the position of the checkpoint."""
        from lightkit.schema import NUMBER, TEXT, WHOLE, DictOf, ListOf, Record, optional

        newest = {"newest": DictOf(NUMBER), "newest_keys": ListOf(TEXT), "newest_values": ListOf(NUMBER)}
        hparams = {"hparams_step": optional(WHOLE), "hparams_metrics": ListOf(TEXT)}
        Record({}, {"max_step": WHOLE, **hparams, **newest}).check(state_dict)
        self.finalize("interrupted")
        super().load_state_dict(state_dict)
        self._max_step = state_dict.get("max_step", -1)
        before = state_dict.get("newest", {})  # of files that held one value a name alone
        keys, values = state_dict.get("newest_keys", before), state_dict.get("newest_values", before.values())
        self._newest = list(zip(keys, values, strict=False))
        self._has_media_at_newest = "newest" not in state_dict
        # TensorBoard purges whole steps only: the highest step is purged too and its scalars, which may have
        # been added to after the checkpoint, are written again. Images are not kept, so their step stays.
        self._purge_step = self._max_step + 1 if self._has_media_at_newest else max(self._max_step, 0)
        self._curves_end, self._curves_cut = self._max_step + 1, set()
        # what is purged of the hyperparameters is written again, when they are logged at the begin of the fit
        hparams_step: int | None = state_dict.get("hparams_step", 0)
        self._hparams_step = hparams_step if hparams_step is not None and hparams_step < self._purge_step else None
        # of files that do not name them the default one is known
        named = set(state_dict.get("hparams_metrics", ["hp_metric"]))
        self._hparams_metrics = named if self._hparams_step is not None else set()
        if self.log_dir is not None and self._newest:
            for key, value in self._newest:
                self._write(1, partial(_add_scalar, key, value, self._max_step))

    def _at(self, step: int | None, is_media: bool = False) -> int:
        """Return the step to write at, and note it where it is the highest so far."""
        if step is None:
            step = max(self._max_step, 0)
        if step > self._max_step:
            self._max_step, self._newest, self._has_media_at_newest = step, [], False
        self._has_media_at_newest |= is_media and step == self._max_step
        return step

    def _note(self, key: str, value: float) -> None:
        if key in self._placeholders:
            self._placeholders.discard(key)
            self._newest = [pair for pair in self._newest if pair[0] != key]
        self._newest.append((key, value))
        if len(self._newest) > _MOST_AT_ONE_STEP:  # somebody logs without steps
            self._newest = list(dict(self._newest).items())


def _names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("events.out.tfevents.*")}


def _add_scalar(tag: str, value: float, step: int, writer: SummaryWriter) -> None:
    writer.add_scalar(tag, value, step)


def _add_image(tag: str, image: Any, step: int, layout: str, writer: SummaryWriter) -> None:
    writer.add_image(tag, image, step, dataformats=layout)


def _check_room(directory: Path) -> None:
    """Raise OSError where a few kilobytes cannot be written there."""
    probe = directory / f".room.{os.getpid()}.tmp"
    try:
        probe.write_bytes(bytes(8192))
    finally:
        probe.unlink(missing_ok=True)
