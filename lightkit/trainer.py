"""Trainer: checks its arguments, assembles the parts, and starts fit, validate, test and predict. No loop is here."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from lightkit import arguments as arg
from lightkit import profilers, rundir
from lightkit.board import MetricBoard
from lightkit.callbacks import ModelCheckpoint, ModelSummary, Timer
from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.callbacks.default_bar import default_progress_bar
from lightkit.callbacks.early_stopping import EarlyStopping
from lightkit.callbacks.progress import ProgressBar
from lightkit.checkpoint.async_write import AsyncWriter
from lightkit.checkpoint.writer import Writer
from lightkit.devices.accelerators import choose
from lightkit.devices.compute import choose_compute
from lightkit.devices.precision import choose_precision
from lightkit.devices.strategies import choose_strategy
from lightkit.errors import ConfigError
from lightkit.hooks import Dispatcher
from lightkit.loggers import CSVLogger, TensorBoardLogger
from lightkit.loggers.base import Logger
from lightkit.loops.evaluation import EvaluationLoop
from lightkit.loops.training import TrainingLoop
from lightkit.profilers.base import Profiler
from lightkit.results import Results
from lightkit.runs import Run
from lightkit.seeding import Snapshot, seed_everything
from lightkit.version import __version__

Limit = int | float | None


class Trainer:
    """Trains and evaluates a LightModule: devices, precision, data, schedules, checkpoints, logging.

    Arguments, defaults and attributes are those of Lightning 2.6's Trainer; differences stand in docs/architecture.md.
    Own arguments: `seed` (as `seed_everything(seed, workers=True)`), `run_dir` (the directory of the run), `run_name`
    (names it under `<default_root_dir>/runs/`), `nan_check` ("read": when metrics are read, "step": every step, "off").
    `val_check_interval` also takes "100step", "2epoch", "10min"; `async_checkpoint`: a thread writes checkpoints while
    the training goes on (docs/guide/checkpoints.md). `profiler`: "simple", "advanced", "pytorch" or a Profiler.
    For speed, see docs/guide/compute.md: `channels_last`, `optimizer_kernel` ("fused", "foreach"), `tf32`, `compile`
    (True, a mode, or torch.compile's arguments), `cuda_graph`, `overlap_transfer`.

    Raises:
        ConfigError: an argument that does not exist (with the nearest name, or what to write instead of a removed one)
            or has a wrong value.
    """

    def __init__(
        self, *, accelerator: str = "auto", strategy: str = "auto", devices: list[int] | str | int = "auto",
        num_nodes: int = 1, precision: str | int | None = None, logger: Logger | list[Logger] | bool | None = None,
        callbacks: list[Callback] | Callback | None = None, fast_dev_run: int | bool = False,
        max_epochs: int | None = None, min_epochs: int | None = None, max_steps: int = -1, min_steps: int | None = None,
        max_time: str | timedelta | dict[str, int] | None = None, limit_train_batches: Limit = None,
        limit_val_batches: Limit = None, limit_test_batches: Limit = None, limit_predict_batches: Limit = None,
        overfit_batches: int | float = 0.0, val_check_interval: int | float | str | timedelta | None = None,
        check_val_every_n_epoch: int | None = 1, num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None, enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None, enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1, gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | None = None,
        deterministic: bool | Literal["warn"] | None = None, benchmark: bool | None = None, inference_mode: bool = True,
        use_distributed_sampler: bool = True, detect_anomaly: bool = False, barebones: bool = False,
        sync_batchnorm: bool = False, reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: str | Path | None = None, seed: int | None = None, run_dir: str | Path | None = None,
        run_name: str | None = None, nan_check: Literal["read", "step", "off"] = "read",
        profiler: Profiler | str | None = None, async_checkpoint: bool = False, channels_last: bool = False,
        optimizer_kernel: Literal["fused", "foreach"] | None = None, tf32: bool | None = None,
        compile: bool | str | dict[str, Any] | None = None, cuda_graph: bool = False, overlap_transfer: bool = False,
        **unknown: Any,
    ) -> None:  # fmt: skip
        given = {name: value for name, value in locals().items() if name not in ("self", "unknown")}
        arg.refuse_unknown(unknown, list(given))
        arg.check_all(given)
        arg.apply_dev_run(given)
        arg.apply_barebones(given)
        if seed is not None:
            seed_everything(seed, workers=True)
        self.accelerator, self.devices = choose(accelerator, devices)
        self.strategy = choose_strategy(strategy)
        self.strategy.root_device = self.devices[0]
        self.precision = choose_precision(precision, self.devices[0])
        settings: Any = SimpleNamespace(**given)
        self.compute = choose_compute(settings, self.devices[0], self.precision)
        self.profiler = profilers.choose(given["profiler"])
        self.checkpoint_writer = AsyncWriter() if async_checkpoint else Writer()
        self._take_numbers(given)
        self.default_root_dir = str(default_root_dir) if default_root_dir is not None else os.getcwd()
        self._explicit_run_dir = Path(run_dir) if run_dir is not None else None
        self._run_name = run_name
        self._run_dir: Path | None = None
        self.loggers = self._make_loggers(given["logger"])
        self.callbacks = self._make_callbacks(given)
        self._reset_state()
        arg.apply_torch_switches(deterministic, benchmark, self.accelerator.name)

    def _take_numbers(self, given: dict[str, Any]) -> None:
        names = (
            "fast_dev_run min_epochs min_steps max_steps check_val_every_n_epoch accumulate_grad_batches nan_check "
            "gradient_clip_val inference_mode detect_anomaly barebones reload_dataloaders_every_n_epochs "
            "overfit_batches num_nodes use_distributed_sampler"
        )
        for name in names.split():
            setattr(self, name, given[name])
        self.max_epochs = arg.settle_max_epochs(given)
        self.gradient_clip_algorithm = given["gradient_clip_algorithm"] or "norm"
        every = given["log_every_n_steps"]
        self.log_every_n_steps: int = 50 if every is None else every
        self.log_interval: float = self.log_every_n_steps or math.inf
        sanity = given["num_sanity_val_steps"]
        self.num_sanity_val_steps: float = 2 if sanity is None else (math.inf if sanity == -1 else sanity)
        for stage in ("train", "val", "test", "predict"):
            limit = given[f"limit_{stage}_batches"]
            setattr(self, f"limit_{stage}_batches", 1.0 if limit is None else limit)
        if given["overfit_batches"]:
            self.limit_train_batches = self.limit_val_batches = given["overfit_batches"]
            self.num_sanity_val_steps = 0
        self.val_check_interval = 1.0 if given["val_check_interval"] is None else given["val_check_interval"]
        self.validation_interval = arg.parse_validation_interval(given["val_check_interval"])

    def _make_loggers(self, logger: Any) -> list[Logger]:
        if logger is None or logger is True:
            return [TensorBoardLogger(), CSVLogger()]
        if not logger:
            return []
        loggers = list(logger) if isinstance(logger, (list, tuple)) else [logger]
        for item in loggers:
            if not isinstance(item, Logger):
                raise ConfigError(f"Trainer(logger=...): {type(item).__name__} is not a Logger")
        return loggers

    def _make_callbacks(self, given: dict[str, Any]) -> list[Callback]:
        """The user's callbacks with the default ones; those that save come last."""
        callbacks = given["callbacks"]
        found = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []
        for item in found:
            if not isinstance(item, Callback):
                raise ConfigError(f"Trainer(callbacks=...): {type(item).__name__} is not a Callback")
        arg.check_callbacks(given, has_checkpoint=_has(found, Checkpoint), has_bar=_has(found, ProgressBar))
        if given["max_time"] is not None and not _has(found, Timer):
            found.append(Timer(given["max_time"]))
        if given["enable_model_summary"] is not False and not _has(found, ModelSummary):
            found.append(ModelSummary())
        if given["enable_progress_bar"] is not False and not _has(found, ProgressBar):
            bar = default_progress_bar()
            found += [bar] if bar is not None else []
        if given["enable_checkpointing"] is not False and not _has(found, Checkpoint):
            found.append(ModelCheckpoint())
        return sorted(found, key=lambda c: isinstance(c, Checkpoint))

    def _reset_state(self) -> None:
        self.version = __version__
        self.lightning_module: Any = None
        self.datamodule: Any = None
        self.state_fn: str | None = None
        self.status = "initializing"
        self.sanity_checking = self.shows_steps = self.should_stop = self.fitting = False
        self.training_rng: Snapshot | None = None
        self.optimizers: list[torch.optim.Optimizer] = []
        self.lr_scheduler_configs: list[Any] = []
        self.board = MetricBoard()
        self._results: Results | None = None
        self.ckpt_path: str | None = None
        self.has_fitted = False
        self.train_dataloader: Any = None
        self.loaders: dict[str, Any] = {"val": None, "test": None, "predict": None}
        self.num_training_batches: float = math.inf
        self.num_sanity_val_batches: list[float] = []
        self.num_val_batches: list[float] = []
        self.num_test_batches: list[float] = []
        self.num_predict_batches: list[float] = []
        self.enable_validation = False
        self.validate_loop = EvaluationLoop(self, "validation")
        self.test_loop = EvaluationLoop(self, "test")
        self.fit_loop = TrainingLoop(self, self.validate_loop)
        self.predict_loop: Any = None
        self.run = Run(self)

    # ---------------------------------------------------------------- what users start

    def fit(
        self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, datamodule: Any = None,
        ckpt_path: str | Path | None = None,
    ) -> None:  # fmt: skip
        """Train the module, from the start or from a checkpoint.

        ckpt_path: a file, "best", or "last" (the newest whole checkpoint of this or the latest run of that name).
        Data: given here, by the data module, or by the module's own `*_dataloader` methods.

        Raises:
            LightkitError: bad arguments, hooks, data or checkpoint; nothing that was saved is lost.
        """
        self.run.fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path)

    def validate(
        self, model: Any = None, dataloaders: Any = None, ckpt_path: str | Path | None = None, verbose: bool = True,
        datamodule: Any = None,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run the validation once; -> one dict of metrics for each loader."""
        return self.run.evaluate("validate", model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self, model: Any = None, dataloaders: Any = None, ckpt_path: str | Path | None = None, verbose: bool = True,
        datamodule: Any = None,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run the test once; -> one dict of metrics for each loader.

        Without a model, the one fitted last is tested: its best checkpoint where one was monitored.
        """
        return self.run.evaluate("test", model, dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self, model: Any = None, dataloaders: Any = None, datamodule: Any = None,
        return_predictions: bool | None = None, ckpt_path: str | Path | None = None,
    ) -> Any:  # fmt: skip
        """Run `predict_step` over the data; -> a list of its outputs (a list of lists with several loaders)."""
        return self.run.predict(model, dataloaders, datamodule, return_predictions, ckpt_path)

    def save_checkpoint(self, filepath: str | Path, weights_only: bool = False) -> None:
        """Save the run as it is between two steps, atomically; weights_only leaves out all but the weights."""
        self.run.save_checkpoint(filepath, weights_only)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print once, above the progress bar."""
        bar = self.progress_bar_callback
        if bar is not None:
            bar.print(*args, **kwargs)
        elif self.is_global_zero:
            print(*args, **kwargs)

    # ---------------------------------------------------------------- what loops and hooks use

    def bind_hooks(self, bases: tuple[type, ...]) -> None:
        """Make the dispatcher for the module, data module and callbacks that take part now."""
        self.dispatcher = Dispatcher(self, self.lightning_module, self.datamodule, self.callbacks, bases)

    def call(self, name: str, *args: Any, owners: str = "CSM") -> None:
        """Call a hook outside of the hot loop."""
        if self._results is not None:
            self._results.enter(name)
        for fn in self.dispatcher.bind(name, owners):
            fn(*args)

    @contextmanager
    def collect_into(self, results: Results) -> Iterator[None]:
        """Let `self.log` collect into these results."""
        module, before = self.lightning_module, self._results
        self._results = module.__dict__["_results"] = results
        try:
            yield
        finally:
            self._results = module.__dict__["_results"] = before

    def log_to_loggers(self, metrics: dict[str, float], step: int) -> None:
        """Write metrics, with the epoch, to every logger."""
        if not metrics:
            return
        self.board.logged.update(metrics)
        if self.is_global_zero:
            metrics = {**metrics, "epoch": self.current_epoch}
            for logger in self.loggers:
                logger.log_metrics(metrics, step)

    def reload_train_loader_if_due(self) -> None:
        """Ask for the training loader again where `reload_dataloaders_every_n_epochs` says so."""
        self.run.reload_train_loader_if_due()

    # ---------------------------------------------------------------- what users read

    @property
    def train_source(self) -> Any:
        """The training loader as the loop reads it."""
        return self.run.train_source

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of every logged metric, 0-dim tensors on the CPU; reading costs a device read."""
        self._refresh()
        return self.board.callback

    @property
    def logged_metrics(self) -> dict[str, float]:
        """What the loggers may get, the newest value by name; reading costs a device read."""
        self._refresh()
        return self.board.logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged with `prog_bar=True`; reading costs a device read."""
        self._refresh()
        return self.board.progress_bar

    def _refresh(self) -> None:
        results = self._results
        if results is not None and (self.shows_steps if results.is_training else results.has_step_values):
            self.board.take(results, of_step=True)

    @property
    def current_epoch(self) -> int:
        """The running epoch, from 0."""
        return self.fit_loop.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps taken over all epochs."""
        return self.fit_loop.progress.global_step

    @property
    def estimated_stepping_batches(self) -> float:
        """Optimizer steps of the whole fit, for OneCycleLR; inf where nothing limits it."""
        return self.run.estimated_stepping_batches()

    @property
    def validation_plan(self) -> Any:
        """When validation runs."""
        return self.run.validation_plan

    @property
    def model(self) -> Any:
        """The module."""
        return self.lightning_module

    @property
    def state(self) -> arg.TrainerState:
        """What runs: `fn` ("fit", ...), `stage` ("train", "validate", "sanity_check", ...) and `status`."""
        return arg.TrainerState(self.state_fn, self.stage, self.status)

    @property
    def stage(self) -> str | None:
        """The stage that runs now."""
        if self.sanity_checking:
            return "sanity_check"
        if self.state_fn != "fit":
            return self.state_fn
        return "validate" if self.training_rng is not None else "train"

    training = property(lambda self: self.stage == "train")
    validating = property(lambda self: self.stage == "validate")
    testing = property(lambda self: self.stage == "test")
    predicting = property(lambda self: self.stage == "predict")
    evaluating = property(lambda self: self.stage in ("validate", "test"))
    is_global_zero = property(lambda self: self.strategy.is_global_zero)
    world_size = property(lambda self: self.strategy.world_size)
    global_rank = property(lambda self: self.strategy.global_rank)
    local_rank = property(lambda self: self.strategy.local_rank)
    num_devices = property(lambda self: len(self.devices))
    is_last_batch = property(lambda self: self.fit_loop.batches_done + 1 >= self.num_training_batches)
    val_dataloaders = property(lambda self: self.loaders["val"])
    test_dataloaders = property(lambda self: self.loaders["test"])
    predict_dataloaders = property(lambda self: self.loaders["predict"])
    interrupted = property(lambda self: self.status == "interrupted")

    @property
    def run_dir(self) -> Path:
        """The directory of this run; made when first asked for."""
        if self._run_dir is None:
            name = self._run_name or (type(self.lightning_module).__name__ if self.lightning_module else "run")
            self._run_dir = rundir.make(Path(self.default_root_dir), name, self._explicit_run_dir, self.version)
        return self._run_dir

    @property
    def log_dir(self) -> str | None:
        """Where the first logger writes, else the run directory."""
        found = self.loggers[0].log_dir if self.loggers else None
        return found or str(self.run_dir)

    @property
    def logger(self) -> Logger | None:
        """The first logger, or None."""
        return self.loggers[0] if self.loggers else None

    @property
    def checkpoint_callbacks(self) -> list[Any]:
        """All callbacks that save."""
        return [c for c in self.callbacks if isinstance(c, Checkpoint)]

    @property
    def early_stopping_callbacks(self) -> list[Any]:
        """All EarlyStopping callbacks."""
        return [c for c in self.callbacks if isinstance(c, EarlyStopping)]

    checkpoint_callback = property(lambda self: next(iter(self.checkpoint_callbacks), None))
    early_stopping_callback = property(lambda self: next(iter(self.early_stopping_callbacks), None))
    progress_bar_callback = property(lambda self: next((c for c in self.callbacks if isinstance(c, ProgressBar)), None))


def _has(callbacks: list[Any], kind: type | Callable[..., Any]) -> bool:
    return any(isinstance(c, kind) for c in callbacks)  # type: ignore[arg-type]
