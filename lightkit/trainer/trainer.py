"""Trainer: its settings, the parts that they ask for, and the runs that it opens. No loop is here."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar

import torch
from torch import Tensor

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.checkpoint.writer import Writer
from lightkit.data import sources
from lightkit.datamodule import LightDataModule
from lightkit.devices.accelerators import Accelerator, choose
from lightkit.devices.compute import apply_torch_switches, choose_compute
from lightkit.devices.precision import choose_precision
from lightkit.devices.strategies import Strategy, choose_strategy
from lightkit.errors import ConfigError
from lightkit.loggers.base import Logger
from lightkit.loops.position import Position
from lightkit.module import LightModule
from lightkit.profilers import choose as choose_profiler
from lightkit.profilers.base import Profiler
from lightkit.run.base import Loaders, Run
from lightkit.run.directory import RunDirectory
from lightkit.run.fit import FitRun
from lightkit.settings import ClipAlgorithm, Limit, NanCheck, OnLogError, Plugins, Settings
from lightkit.states import RunningStage, TrainerFn, TrainerState
from lightkit.trainer.earlier import EarlierCalls, loaders_of, with_old_ones
from lightkit.trainer_parts import make_callbacks, make_loggers
from lightkit.version import __version__

if TYPE_CHECKING:
    from lightkit.callbacks import EarlyStopping, ProgressBar
    from lightkit.callbacks.handlers import Handle
    from lightkit.loops.evaluation import EvaluationLoop
    from lightkit.loops.prediction import PredictionLoop
    from lightkit.loops.steps.manual import ManualOptimization
    from lightkit.loops.training import TrainingLoop
    from lightkit.optimizer_forms import LRSchedulerConfig
    from lightkit.records import Records
    from lightkit.run.evaluation import EvaluationRun

R = TypeVar("R", bound=Run)


class Trainer(EarlierCalls):
    """Trains and evaluates a LightModule: devices, precision, data, schedules, checkpoints, logging.

    Arguments, defaults and attributes are those of Lightning 2.6's Trainer; differences stand in docs/architecture.md.
    Own arguments: `seed` (as `seed_everything(seed, workers=True)`), `run_dir` (the directory of the run), `run_name`
    (names it under `<default_root_dir>/runs/`), `nan_check` ("read": the loss when metrics are read and an
    epoch ends, weights too before a save and at the end; "step": the loss in every step, too; "off"),
    `on_log_error` ("warn": where a logger cannot write, the training goes on and the end says what is missing; "raise":
    it stops). Directories may be URLs (docs/guide/remote.md).
    `val_check_interval` also takes "100step", "2epoch", "10min"; `async_checkpoint`: a thread writes checkpoints while
    the training goes on (docs/guide/checkpoints.md). `resume="auto"`: the first fit goes on from the newest whole
    checkpoint of this run, where there is one (docs/guide/resume.md). `profiler`: "simple", "advanced", "pytorch" or a
    Profiler.
    For speed, see docs/guide/compute.md: `channels_last`, `optimizer_kernel` ("fused", "foreach"), `tf32`, `compile`
    (True, a mode, or torch.compile's arguments), `cuda_graph`, `overlap_transfer`.

    Raises:
        ConfigError: an argument that does not exist (with the nearest name, or what to write instead of a removed one)
            or has a wrong value.
    """

    def __init__(
        self, *, accelerator: str | Accelerator = "auto", strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto", num_nodes: int = 1, precision: str | int | None = None,
        logger: Logger | list[Logger] | bool | None = None, callbacks: list[Callback] | Callback | None = None,
        fast_dev_run: int | bool = False, max_epochs: int | None = None, min_epochs: int | None = None,
        max_steps: int = -1, min_steps: int | None = None, max_time: str | timedelta | dict[str, int] | None = None,
        limit_train_batches: Limit = None, limit_val_batches: Limit = None, limit_test_batches: Limit = None,
        limit_predict_batches: Limit = None, overfit_batches: int | float = 0.0,
        val_check_interval: int | float | str | timedelta | None = None, check_val_every_n_epoch: int | str | None = 1,
        num_sanity_val_steps: int | None = None, log_every_n_steps: int | str | None = None,
        enable_checkpointing: bool | None = None, enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None, accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None, gradient_clip_algorithm: ClipAlgorithm | None = None,
        deterministic: bool | Literal["warn"] | None = None, benchmark: bool | None = None, inference_mode: bool = True,
        use_distributed_sampler: bool = True, detect_anomaly: bool = False, barebones: bool = False,
        sync_batchnorm: bool = False, reload_dataloaders_every_n_epochs: int | str = 0,
        default_root_dir: str | Path | None = None, seed: int | None = None, run_dir: str | Path | None = None,
        run_name: str | None = None, nan_check: NanCheck = "read", on_log_error: OnLogError = "warn",
        profiler: Profiler | str | None = None, async_checkpoint: bool = False, channels_last: bool = False,
        optimizer_kernel: Literal["fused", "foreach"] | None = None, tf32: bool | None = None,
        compile: bool | str | dict[str, Any] | None = None, cuda_graph: bool = False, overlap_transfer: bool = False,
        resume: Literal["auto"] | None = None, enable_autolog_hparams: bool = True, plugins: Plugins = None,
        **unknown: Never,
    ) -> None:  # fmt: skip
        asked = Settings(
            accelerator=accelerator, strategy=strategy, devices=devices, num_nodes=num_nodes, precision=precision,
            logger=logger, callbacks=callbacks, fast_dev_run=fast_dev_run, max_epochs=max_epochs, min_epochs=min_epochs,
            max_steps=max_steps, min_steps=min_steps, max_time=max_time, limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches, limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches, overfit_batches=overfit_batches,
            val_check_interval=val_check_interval, check_val_every_n_epoch=check_val_every_n_epoch,
            num_sanity_val_steps=num_sanity_val_steps, log_every_n_steps=log_every_n_steps,
            enable_checkpointing=enable_checkpointing, enable_progress_bar=enable_progress_bar,
            enable_model_summary=enable_model_summary, accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm,
            deterministic=deterministic, benchmark=benchmark, inference_mode=inference_mode,
            use_distributed_sampler=use_distributed_sampler, detect_anomaly=detect_anomaly, barebones=barebones,
            sync_batchnorm=sync_batchnorm, reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
            default_root_dir=default_root_dir, seed=seed, run_dir=run_dir, run_name=run_name, nan_check=nan_check,
            on_log_error=on_log_error, profiler=profiler, async_checkpoint=async_checkpoint,
            channels_last=channels_last, optimizer_kernel=optimizer_kernel, tf32=tf32, compile=compile,
            cuda_graph=cuda_graph, overlap_transfer=overlap_transfer, resume=resume, plugins=plugins,
            enable_autolog_hparams=enable_autolog_hparams,
        )  # fmt: skip
        asked, self._resume_from = with_old_ones(asked, unknown)  # the checkpoint of fits that get no ckpt_path
        settings = asked.in_effect()
        self._assemble(settings)
        super().__init__(settings)
        self._loggers: list[Logger] = make_loggers(settings)
        self._callbacks = make_callbacks(settings)
        self._directory = RunDirectory(self.default_root_dir, run_dir, run_name, __version__)
        self._position = Position()
        self._runs: list[Run] = []  # those that are open: a call inside a hook of another comes on top
        self._last: Run | None = None
        self._last_fit: FitRun | None = None
        self._has_fitted = False
        apply_torch_switches(deterministic, benchmark, self.accelerator.name)

    def _assemble(self, settings: Settings) -> None:
        """Choose the parts that the settings ask for; they stay the same."""
        if settings.seed is not None:
            from lightkit.global_seed import seed_everything

            seed_everything(settings.seed, workers=True)
        self.settings, self.version = settings, __version__
        self.accelerator, self.devices = choose(settings.accelerator, settings.devices)
        self.num_devices = len(self.devices)
        self.strategy = choose_strategy(settings.strategy)
        self.strategy.use(self.devices[0])
        self.is_global_zero, self.world_size = self.strategy.is_global_zero, self.strategy.world_size
        self.global_rank, self.local_rank = self.strategy.global_rank, self.strategy.local_rank
        self.profiler = choose_profiler(settings.profiler)
        if settings.val_check_interval is not None:  # what is wrong with it is said now
            from lightkit.intervals import parse_validation_interval

            parse_validation_interval(settings.val_check_interval)
        precision, writer = choose_precision(settings.precision, self.devices[0]), Writer()
        if settings.async_checkpoint:
            from lightkit.checkpoint.async_write import AsyncWriter

            writer = AsyncWriter()
        if settings.plugins:
            from lightkit.trainer_plugins import given_by_plugins

            precision, writer = given_by_plugins(settings, precision, writer)
        self.precision, self.checkpoint_writer = precision, writer
        self.compute = choose_compute(settings, self.devices[0], self.precision)
        self.default_root_dir = _root_of(settings)

    # ---------------------------------------------------------------- what users start

    def fit(
        self, model: LightModule, train_dataloaders: Any = None, val_dataloaders: Any = None,
        datamodule: LightDataModule | None = None, ckpt_path: str | Path | None = None,
        weights_only: bool | None = None, **earlier: Any,
    ) -> None:  # fmt: skip
        """Train the module, from the start or from a checkpoint.

        ckpt_path: a file, "best", or "last" (the newest whole checkpoint of this or the latest run of that name).
        Data: given here, by the data module, or by the module's own `*_dataloader` methods. weights_only: a checkpoint
        is always read without executing anything from it; False is an error.

        Raises:
            LightkitError: bad arguments, hooks, data or checkpoint; nothing that was saved is lost.
        """
        train_dataloaders, val_dataloaders = loaders_of(
            "fit", weights_only, earlier, train_dataloaders=train_dataloaders, val_dataloaders=val_dataloaders
        )
        train, datamodule = sources.data_of(train_dataloaders, datamodule, "train_dataloaders", val_dataloaders)
        if self._open_fit is not None:
            raise ConfigError(
                "trainer.fit(): a fit of this Trainer is running, and both would count the same epochs and steps; use "
                "another Trainer for the one inside"
            )
        with self._run(FitRun, model, datamodule, train, val_dataloaders) as run:
            self._last_fit = run
            run.fit(self._resume_from if ckpt_path is None else ckpt_path)
        self._has_fitted = True

    def validate(
        self, model: LightModule | None = None, dataloaders: Any = None, ckpt_path: str | Path | None = None,
        verbose: bool = True, datamodule: LightDataModule | None = None, weights_only: bool | None = None,
        **earlier: Any,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run the validation once; -> one dict of metrics for each loader."""
        from lightkit.run.evaluation import ValidationRun

        (dataloaders,) = loaders_of("validate", weights_only, earlier, dataloaders=dataloaders)
        return self._evaluate(ValidationRun, model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self, model: LightModule | None = None, dataloaders: Any = None, ckpt_path: str | Path | None = None,
        verbose: bool = True, datamodule: LightDataModule | None = None, weights_only: bool | None = None,
        **earlier: Any,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run the test once; -> one dict of metrics for each loader.

        Without a model, the one fitted last is tested: its best checkpoint where one was monitored.
        """
        from lightkit.run.evaluation import TestRun

        (dataloaders,) = loaders_of("test", weights_only, earlier, dataloaders=dataloaders)
        return self._evaluate(TestRun, model, dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self, model: LightModule | None = None, dataloaders: Any = None, datamodule: LightDataModule | None = None,
        return_predictions: bool | None = None, ckpt_path: str | Path | None = None,
        weights_only: bool | None = None, **earlier: Any,
    ) -> list[Any] | None:  # fmt: skip
        """Run `predict_step` over the data; -> a list of its outputs (a list of lists with several loaders)."""
        from lightkit.run.evaluation import PredictionRun

        (dataloaders,) = loaders_of("predict", weights_only, earlier, dataloaders=dataloaders)
        loaders, datamodule = sources.data_of(dataloaders, datamodule, "dataloaders")
        takes_best = self._takes_best(model)
        with self._run(PredictionRun, model, datamodule, loaders) as run:
            keeps = return_predictions is not False
            return run.predict(ckpt_path, self._last_fit, takes_best=takes_best, keeps=keeps)

    def _evaluate(
        self, kind: type[EvaluationRun], model: LightModule | None, dataloaders: object, ckpt_path: str | Path | None,
        verbose: bool, datamodule: LightDataModule | None,
    ) -> list[dict[str, float]]:  # fmt: skip
        loaders, datamodule = sources.data_of(dataloaders, datamodule, "dataloaders")
        takes_best = self._takes_best(model)
        with self._run(kind, model, datamodule, loaders) as run:
            metrics = run.evaluate(ckpt_path, self._last_fit, takes_best=takes_best)
        if verbose and self.is_global_zero:
            from lightkit.run.evaluation import table

            self.print(table(run.fn, metrics))
        return metrics

    def _takes_best(self, model: LightModule | None) -> bool:
        """Whether an evaluation without a path means the best checkpoint of the last fit."""
        return model is None and self._has_fitted and not self._runs

    def save_checkpoint(self, filepath: str | Path, weights_only: bool = False) -> None:
        """Save the run as it is between two steps, atomically; weights_only leaves out all but the weights."""
        run = self._open_fit or self._newest
        if run is None:
            raise ConfigError("trainer.save_checkpoint(): nothing to save yet; fit a module first")
        rng = next((run.rng_before for run in self._runs if run.rng_before is not None), None)
        run.timing.timed("checkpoint", run.save_checkpoint)(filepath, rng, weights_only=weights_only)

    def on(
        self, event: str, *, every: int | str | timedelta | None = None, once: bool | int = False, after: int = 0,
        filter: Callable[..., object] | None = None,
    ) -> Callable[[Callable[..., Any]], Handle]:  # fmt: skip
        """Decorate a function to be called at an event, a hook's name without `on_`; see docs/guide/handlers.md."""
        from lightkit.callbacks.handlers import registering

        return registering(self, event, every, once, after, filter)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print once, above the progress bar."""
        bar = self.progress_bar_callback
        if bar is not None:
            bar.print(*args, **kwargs)
        elif self.is_global_zero:
            print(*args, **kwargs)

    # ---------------------------------------------------------------- runs

    @property
    def _newest(self) -> Run | None:
        """The run that is open, the innermost of several; else the last one."""
        return self._runs[-1] if self._runs else self._last

    @property
    def _open_fit(self) -> FitRun | None:
        return next((run for run in self._runs if isinstance(run, FitRun)), None)

    @contextmanager
    def _run(
        self, kind: type[R], model: LightModule | None, datamodule: LightDataModule | None, *given: object
    ) -> Iterator[R]:
        """Open a run: until it ends, it is what is read here."""
        is_nested = bool(self._runs)
        self._directory.follow(self.loggers)
        module, datamodule = self._subject(kind.fn, model, datamodule)
        run = kind(self, self._position, self._directory, module, datamodule, given, self._newest, is_nested=is_nested)
        self._runs.append(run)
        try:
            run.attach()
            yield run
        finally:
            self._runs.pop()
            self._last = run
            if is_nested:
                self._runs[-1].attach_again()
            else:
                self._callbacks = run.callbacks

    def _subject(
        self, fn: TrainerFn, model: LightModule | None, datamodule: LightDataModule | None
    ) -> tuple[LightModule, LightDataModule | None]:
        """The module and the data module of a call: those given, else the last ones."""
        if model is None:
            if self._newest is None:
                raise ConfigError(f"trainer.{fn}(): no model; pass one, or fit one first")
            model = self._newest.module
            datamodule = datamodule if datamodule is not None else self._newest.datamodule
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if not isinstance(model, LightModule):
            raise ConfigError(
                f"trainer.{fn}(model): expected a LightModule, got {type(model).__name__}; "
                "subclass lightkit.LightModule"
            )
        if datamodule is not None and not isinstance(datamodule, LightDataModule):
            raise ConfigError(f"trainer.{fn}(datamodule): expected a LightDataModule, got {type(datamodule).__name__}")
        return model, datamodule

    def _fit_run(self, what: str) -> FitRun:
        found = self._open_fit or self._last_fit
        if found is None:
            raise ConfigError(
                f"trainer.{what}: there was no fit yet; read it in a hook of trainer.fit(model), or after it"
            )
        return found

    @property
    def _manual(self) -> ManualOptimization | None:
        """What a module with manual optimization steps with."""
        return None if self._last_fit is None else self._fit_run("optimizers").manual

    def __getstate__(self) -> dict[str, Any]:
        # a copy is one on which no run is open, and which can go on
        return {**self.__dict__, "_runs": [], "_last": self._newest, "_last_fit": None}

    # ---------------------------------------------------------------- parts

    @cached_property
    def _records(self) -> Records:
        """Where metrics are written."""
        from lightkit.records import Records

        return Records(self)

    @property
    def loggers(self) -> list[Logger]:
        """Where metrics are written to; set, they are these, None for nowhere."""
        return self._loggers

    @loggers.setter
    def loggers(self, value: Sequence[Logger] | None) -> None:
        self._loggers = [] if value is None else list(value)

    @property
    def logger(self) -> Logger | None:
        """The first logger, or None; set, it is the only one."""
        return self.loggers[0] if self.loggers else None

    @logger.setter
    def logger(self, value: Logger | None) -> None:
        self.loggers = [] if value is None else [value]

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks in effect, those of the module included; what is added before a run takes part in it."""
        return self._runs[-1].callbacks if self._runs else self._callbacks

    @callbacks.setter
    def callbacks(self, value: list[Callback]) -> None:
        self._callbacks = value
        if self._runs:
            self._runs[-1].take_callbacks(value)

    # ---------------------------------------------------------------- what a run shows

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of every logged metric, 0-dim tensors on the CPU; reading costs a device read."""
        return {} if self._newest is None else self._newest.callback_metrics()

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What the loggers may get, the newest value by name, 0-dim tensors; reading costs a device read."""
        if self._newest is None:
            return {}
        self._newest.refresh()
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self._newest.board.logged.items()}

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged with `prog_bar=True`; reading costs a device read."""
        if self._newest is None:
            return {}
        self._newest.refresh()
        return self._newest.board.progress_bar

    @property
    def current_epoch(self) -> int:
        """The running epoch, from 0; after a fit that was stopped inside of an epoch, as after its end, the next."""
        return self._position.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps taken over all epochs."""
        return self._position.counters.global_step

    @property
    def estimated_stepping_batches(self) -> float:
        """Optimizer steps of the whole fit, for OneCycleLR; inf where nothing limits it.

        Raises:
            ConfigError: there was no fit yet, whose data says it.
        """
        return self._fit_run("estimated_stepping_batches").data.estimated_stepping_batches()

    @property
    def state(self) -> TrainerState:
        """What runs: `fn` ("fit", ...), `stage` ("train", "validate", "sanity_check", ...), `status`; see states.py."""
        return TrainerState() if self._newest is None else self._newest.state

    @property
    def _stage(self) -> RunningStage | None:
        return None if self._newest is None else self._newest.stage

    @property
    def sanity_checking(self) -> bool:
        """Whether the sanity check before the training is going on."""
        return self._stage == "sanity_check"

    @property
    def training(self) -> bool:
        """Whether a training is going on, and no evaluation in it."""
        return self._stage == "train"

    @property
    def validating(self) -> bool:
        """Whether a validation is going on, also inside of a fit."""
        return self._stage == "validate"

    @property
    def testing(self) -> bool:
        """Whether a test is going on."""
        return self._stage == "test"

    @property
    def predicting(self) -> bool:
        """Whether a prediction is going on."""
        return self._stage == "predict"

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a test or a sanity check is going on."""
        return self._stage is not None and self._stage.evaluating

    @property
    def interrupted(self) -> bool:
        """Whether the last run was ended by Ctrl-C."""
        return self.state.status == "interrupted"

    @property
    def lightning_module(self) -> LightModule | None:
        """The module of the run, or of the last one."""
        return None if self._newest is None else self._newest.module

    @property
    def model(self) -> LightModule | None:
        """As `lightning_module`."""
        return self.lightning_module

    @property
    def datamodule(self) -> LightDataModule | None:
        """The data module of the run, or of the last one."""
        return None if self._newest is None else self._newest.datamodule

    @property
    def ckpt_path(self) -> str | None:
        """The file that the weights of the run were loaded from."""
        return None if self._newest is None else self._newest.ckpt_path

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """What `configure_optimizers` returned in the fit that runs, or in the last one."""
        return [] if self._newest is None else self._newest.optimization.optimizers

    @optimizers.setter
    def optimizers(self, value: list[torch.optim.Optimizer]) -> None:
        self._fit_run("optimizers").take_optimizers(value)

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The schedulers that `configure_optimizers` returned, and when they move."""
        return [] if self._newest is None else self._newest.optimization.schedulers

    @property
    def fit_loop(self) -> TrainingLoop:
        """The training loop of the fit that runs, or of the last one."""
        return self._fit_run("fit_loop").loop

    @property
    def validate_loop(self) -> EvaluationLoop:
        """The validation of the fit that runs, or of the last one."""
        validation = self._fit_run("validate_loop").data.validation
        if validation is None or (found := validation.loop) is None:
            raise ConfigError("trainer.validate_loop: this fit has no validation, or its loaders are not asked for yet")
        return found

    @property
    def predict_loop(self) -> PredictionLoop:
        """The pass of the prediction that runs, or of the last one."""
        from lightkit.run.evaluation import prediction_of

        return prediction_of(self._newest)

    @property
    def is_last_batch(self) -> bool:
        """Whether the training batch that runs is the epoch's last."""
        return self._position.counters.batches_done + 1 >= self.num_training_batches

    @property
    def _loaders(self) -> Loaders:
        return Loaders() if self._newest is None else self._newest.loaders

    @property
    def train_dataloader(self) -> Iterable[Any] | None:
        """The training loader, as it was given or made."""
        return self._loaders.found.get("train")

    @property
    def val_dataloaders(self) -> Iterable[Any] | None:
        """The validation loader or loaders, as they were given or made."""
        return self._loaders.found.get("val")

    @property
    def test_dataloaders(self) -> Iterable[Any] | None:
        """The test loader or loaders, as they were given or made."""
        return self._loaders.found.get("test")

    @property
    def predict_dataloaders(self) -> Iterable[Any] | None:
        """The loader or loaders of a prediction, as they were given or made."""
        return self._loaders.found.get("predict")

    @property
    def num_training_batches(self) -> float:
        """Batches of a training epoch; inf where the loader has no length."""
        return self._loaders.counts.get("train", [math.inf])[0]

    @property
    def num_val_batches(self) -> list[float]:
        """Batches of each validation loader."""
        return self._loaders.counts.get("val", [])

    @property
    def num_sanity_val_batches(self) -> list[float]:
        """Batches of each validation loader in the sanity check."""
        return self._loaders.counts.get("sanity", [])

    @property
    def num_test_batches(self) -> list[float]:
        """Batches of each test loader."""
        return self._loaders.counts.get("test", [])

    @property
    def num_predict_batches(self) -> list[float]:
        """Batches of each loader of a prediction."""
        return self._loaders.counts.get("predict", [])

    @property
    def enable_validation(self) -> bool:
        """Whether the fit validates: there is a validation_step, and there are batches for it."""
        return self._last_fit is not None and self._last_fit.data.enable_validation

    @property
    def run_dir(self) -> Path:
        """The directory of this run; reading it makes none.

        Raises:
            ConfigError: no run has begun, and `Trainer(run_dir=...)` was not given.
        """
        self._directory.follow(self.loggers)
        return self._directory.look(None if self._newest is None else self._newest.name)

    @property
    def log_dir(self) -> str | None:
        """Where the first logger writes, else the run directory; without a logger `default_root_dir`."""
        if not self.loggers:
            return self.default_root_dir
        return getattr(self.loggers[0], "log_dir", None) or str(self.run_dir)

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """All callbacks that save."""
        return [c for c in self.callbacks if isinstance(c, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first callback that saves, or None."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """All EarlyStopping callbacks."""
        if not self.callbacks:  # and its file need not be read
            return []
        from lightkit.callbacks.early_stopping import EarlyStopping

        return [c for c in self.callbacks if isinstance(c, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first EarlyStopping callback, or None."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar, or None."""
        if not self.callbacks:
            return None
        from lightkit.callbacks.progress.progress_bar import ProgressBar

        return next((c for c in self.callbacks if isinstance(c, ProgressBar)), None)


def _root_of(settings: Settings) -> str:
    if settings.default_root_dir is None:
        return os.getcwd()
    from lightkit.checkpoint.places import place

    return str(place(settings.default_root_dir))
