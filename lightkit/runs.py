"""A run from its first hook to its last: who is set up when, with which data and checkpoint; errors, teardown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from lightkit import hparams as hyper
from lightkit import optimizers, report, resume
from lightkit.arguments import batches_between
from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.checkpoint import contents, files
from lightkit.data import sources
from lightkit.datamodule import LightDataModule
from lightkit.devices import compute
from lightkit.errors import ConfigError, DataError, HookError
from lightkit.hooks import overrides, take_aliases
from lightkit.loops.evaluation import EvaluationLoop, sanity_check
from lightkit.loops.manual import ManualOptimization, check_manual
from lightkit.loops.prediction import PredictionLoop
from lightkit.loops.validation_plan import ValidationPlan, make_plan
from lightkit.module import LightModule

_BASES = (LightDataModule, Callback, LightModule, Checkpoint)
_LOOPS = {"validate": ("validation", "val"), "test": ("test", "test"), "predict": ("predict", "predict")}


class Run:
    """Assembles what a Trainer runs."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.given: dict[str, Any] = {}
        self.train_source: Any = None
        self.loaded_epoch = 0
        self.compiled: list[torch.nn.Module] = []
        self.has_ended = False  # the last fit ran to its end, which may be inside an epoch
        self.validation_plan: ValidationPlan | None = None

    # ------------------------------------------------------------ fit

    def fit(self, model: Any, train: Any, val: Any, datamodule: Any, ckpt_path: Any) -> None:
        """See Trainer.fit."""
        trainer = self.trainer
        train, datamodule = sources.data_of(train, datamodule, "train_dataloaders", val)
        with self._running("fit", model, datamodule):
            trainer.board.clear()
            trainer.fit_loop.results.clear()
            trainer.fit_loop.results.slots.clear()  # another module's arguments and torchmetrics objects
            self.given = {"train": train, "val": val}
            with trainer.profiler.profile("set-up"):
                is_resumed = self._prepare_fit(ckpt_path)
            if not is_resumed:
                trainer.fit_loop.progress.leave_epoch(was_stopped=self.has_ended)
                trainer.fit_loop.resume_state = None
                self._sanity_check()
            trainer.status, self.has_ended = "running", False
            with torch.autograd.set_detect_anomaly(True) if trainer.detect_anomaly else nullcontext():
                trainer.fit_loop.run()
            trainer.checkpoint_writer.settle()
            self.has_ended = True
            trainer.call("on_fit_end")
            trainer.has_fitted = True

    def _prepare_fit(self, ckpt_path: Any) -> bool:
        """Set everything up; whether the run goes on from a checkpoint."""
        trainer = self.trainer
        checkpoint, path = resume.for_fit(trainer, ckpt_path)
        self._check_fit()
        self._open_run()
        self._set_up("fit")
        trainer.precision.convert_module(trainer.lightning_module)  # before weights, which may be of float64
        if checkpoint is not None:
            contents.give_callbacks(trainer, checkpoint)
            contents.give_weights(trainer, checkpoint, path)
        self.compiled = trainer.compute.place(trainer.lightning_module, trainer.strategy, trainer.devices[0])
        self._configure_optimizers()
        if checkpoint is not None:
            self._find_validation()
            contents.give_training(trainer, checkpoint, path)
        trainer.call("on_fit_start")
        self._log_hyperparameters()
        self._load_train_loader()
        self._load_validation_loaders()
        return checkpoint is not None

    def _check_fit(self) -> None:
        module = self.trainer.lightning_module
        name = type(module).__name__
        if not overrides(module, LightModule, "training_step"):
            raise HookError(
                f"{name}.training_step is not defined; fit needs it: def training_step(self, batch, batch_idx) -> loss"
            )
        if not overrides(module, LightModule, "configure_optimizers"):
            raise HookError(
                f"{name}.configure_optimizers is not defined; return an optimizer, for example "
                "torch.optim.AdamW(self.parameters(), lr=1e-3), or None to train without one"
            )
        if not module.automatic_optimization:
            check_manual(self.trainer, module)

    def _configure_optimizers(self) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        where = f"{type(module).__name__}.configure_optimizers"
        is_manual = not module.automatic_optimization
        found = optimizers.parse(module.configure_optimizers(), where, is_manual=is_manual)
        if len(found.optimizers) > 1 and not is_manual:
            raise ConfigError(
                f"{where} returned {len(found.optimizers)} optimizers; automatic optimization steps one. Put all "
                "parameters into one optimizer, with a parameter group for each learning rate, or set "
                "self.automatic_optimization = False and step each in training_step"
            )
        if not found.optimizers:
            warnings.warn(f"{where} returned None: the training steps run, no weight changes", stacklevel=2)
        trainer.compute.prepare_optimizers(found.optimizers)
        trainer.optimizers, trainer.lr_scheduler_configs = found.optimizers, found.schedulers
        trainer.fit_loop.manual = ManualOptimization(trainer) if is_manual else None

    def _sanity_check(self) -> None:
        trainer = self.trainer
        if not trainer.enable_validation or trainer.num_sanity_val_steps == 0:
            return
        trainer.sanity_checking = True
        trainer.num_sanity_val_batches = [min(trainer.num_sanity_val_steps, n) for n in trainer.num_val_batches]
        try:
            sanity_check(trainer.validate_loop, trainer.num_sanity_val_batches)
        finally:
            trainer.sanity_checking = False

    # ------------------------------------------------------------ validate, test, predict

    def evaluate(self, fn: str, model: Any, loaders: Any, ckpt_path: Any, verbose: bool, datamodule: Any) -> Any:
        """See Trainer.validate and Trainer.test."""
        trainer = self.trainer
        loaders, datamodule = sources.data_of(loaders, datamodule, "dataloaders")
        loop: EvaluationLoop = trainer.validate_loop if fn == "validate" else trainer.test_loop
        with self._running(fn, model, datamodule):
            with trainer.profiler.profile("set-up"):
                self._prepare_evaluation(fn, loop, model, loaders, ckpt_path)
            metrics = loop.run()
        if verbose and trainer.is_global_zero:
            trainer.print(report.table(fn, metrics))
        return metrics

    def predict(self, model: Any, loaders: Any, datamodule: Any, keeps: bool | None, ckpt_path: Any) -> Any:
        """See Trainer.predict."""
        trainer = self.trainer
        loaders, datamodule = sources.data_of(loaders, datamodule, "dataloaders")
        trainer.predict_loop = loop = PredictionLoop(trainer, keeps=keeps is not False)
        with self._running("predict", model, datamodule):
            with trainer.profiler.profile("set-up"):
                self._prepare_evaluation("predict", loop, model, loaders, ckpt_path)
            return loop.run()

    def _prepare_evaluation(self, fn: str, loop: EvaluationLoop, model: Any, loaders: Any, ckpt_path: Any) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        name, stage = _LOOPS[fn]
        if name != "predict" and not overrides(module, LightModule, f"{name}_step"):
            raise HookError(f"{type(module).__name__}.{name}_step is not defined; {fn} needs it")
        path = resume.for_evaluation(trainer, fn, model, ckpt_path)
        self._open_run()
        self._set_up(fn)
        trainer.precision.convert_module(module)
        if path is not None:
            checkpoint = files.load(path)
            contents.give_weights(trainer, checkpoint, str(path))
        self.compiled = trainer.compute.place(module, trainer.strategy, trainer.devices[0])
        found = sources.find_loaders(stage, loaders, trainer.datamodule, module)
        if found is None:
            raise DataError(
                f"{fn}: no data; pass dataloaders=..., datamodule=..., or define "
                f"{type(module).__name__}.{stage}_dataloader"
            )
        self._take_loaders(loop, stage, found)
        trainer.profiler.instrument_evaluation(loop)

    # ------------------------------------------------------------ set-up, teardown, errors

    @contextmanager
    def _running(self, fn: str, model: Any, datamodule: Any) -> Iterator[None]:
        """Attach module and data, and take everything down again, whatever happens in between."""
        trainer = self.trainer
        self._attach(fn, model, datamodule)
        trainer.state_fn, trainer.status, trainer.fitting = fn, "running", fn == "fit"
        trainer.should_stop = False
        trainer.profiler.begin(trainer, fn)
        status = "failed"
        try:
            yield
            trainer.checkpoint_writer.settle()  # hooks at the end may have saved
            status = "success"
        except KeyboardInterrupt as error:
            status = "interrupted"
            self._on_exception(error)
            raise
        except BaseException as error:
            self._on_exception(error)
            raise
        finally:
            trainer.status = "finished" if status == "success" else status
            trainer.fitting = trainer.sanity_checking = trainer.shows_steps = False
            trainer.checkpoint_writer.finish()
            try:
                trainer.call("teardown", fn, owners="D")
                trainer.call("teardown", fn, owners="CSM")
            finally:
                for logger in trainer.loggers:
                    logger.finalize(status)
                trainer.state_fn = None
                self._release(has_failed=status != "success")
                trainer.lightning_module.__dict__["_results"] = None
                trainer.profiler.end(trainer, status)

    def _release(self, *, has_failed: bool) -> None:
        self.trainer.fit_loop.closure_step = None
        compute.release(self.compiled)
        loops = (self.trainer.validate_loop, self.trainer.test_loop, self.trainer.predict_loop)
        for source in (self.train_source, *(s for loop in loops if loop is not None for s in loop.sources)):
            if source is not None:
                source.release(has_failed=has_failed)

    def _on_exception(self, error: BaseException) -> None:
        for fn in self.trainer.dispatcher.bind("on_exception", "DCS"):
            fn(error)

    def _attach(self, fn: str, model: Any, datamodule: Any) -> None:
        trainer = self.trainer
        if model is None:
            if trainer.lightning_module is None:
                raise ConfigError(f"trainer.{fn}(): no model; pass one, or fit one first")
            model = trainer.lightning_module
            datamodule = datamodule if datamodule is not None else trainer.datamodule
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if not isinstance(model, LightModule):
            raise ConfigError(
                f"trainer.{fn}(model): expected a LightModule, got {type(model).__name__}; "
                "subclass lightkit.LightModule"
            )
        if datamodule is not None and not isinstance(datamodule, LightDataModule):
            raise ConfigError(f"trainer.{fn}(datamodule): expected a LightDataModule, got {type(datamodule).__name__}")
        take_aliases(model, LightModule)
        trainer.lightning_module, trainer.datamodule = model, datamodule
        model.trainer = trainer
        if datamodule is not None:
            datamodule._attach(trainer)
        self._add_module_callbacks(model)
        trainer.bind_hooks(_BASES)

    def _add_module_callbacks(self, model: LightModule) -> None:
        trainer = self.trainer
        own = model.configure_callbacks() or []
        own = [own] if isinstance(own, Callback) else list(own)
        if own:
            kinds = {type(c) for c in own}
            kept = [c for c in trainer.callbacks if type(c) not in kinds]
            trainer.callbacks = sorted(kept + own, key=lambda c: isinstance(c, Checkpoint))
        for callback in trainer.callbacks:
            callback._attach(model)

    def _set_up(self, fn: str) -> None:
        trainer = self.trainer
        if trainer.is_global_zero:
            trainer.call("prepare_data", owners="DM")
        trainer.strategy.barrier("prepare_data")
        trainer.call("setup", fn, owners="DCSM")
        trainer.call("configure_model", owners="M")

    def _open_run(self) -> None:
        """Make the run directory before work begins, where something will be written to it."""
        trainer = self.trainer
        needs = bool(trainer.loggers) or (trainer.fitting and bool(trainer.checkpoint_callbacks))
        if needs and not trainer.fast_dev_run and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger._attach(trainer.run_dir)
            assert trainer.run_dir
        trainer.profiler.open(trainer)

    def _log_hyperparameters(self) -> None:
        trainer, module, datamodule = self.trainer, self.trainer.lightning_module, self.trainer.datamodule
        params: dict[str, Any] = {}
        for owner in (datamodule, module):
            if owner is None or not hyper.of(owner).is_logged:
                continue
            for key, value in owner.hparams_initial.items():
                if key in params and params[key] != value:
                    raise ConfigError(
                        f"hyperparameter {key!r}: {type(module).__name__} has {value!r}, "
                        f"{type(datamodule).__name__} has {params[key]!r}; rename one, or use "
                        "save_hyperparameters(logger=False)"
                    )
                params[key] = value
        for logger in trainer.loggers:
            if params:
                logger.log_hyperparams(params)
            logger.log_graph(module)
            logger.save()

    # ------------------------------------------------------------ data

    def _load_train_loader(self) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        if self.train_source is not None and self.given.get("loaded") is trainer.lightning_module:
            return  # configure_optimizers asked for it already, through estimated_stepping_batches
        loader = sources.find_loaders("train", self.given.get("train"), trainer.datamodule, module)
        if loader is None:
            raise DataError(
                "fit: no training data; pass train_dataloaders=..., datamodule=..., or define "
                f"{type(module).__name__}.train_dataloader"
            )
        several = sources.as_list(loader) or [loader]
        if len(several) != 1 or isinstance(loader, dict):
            raise ConfigError(
                f"fit: {len(several)} training loaders; this version trains on one, so combine their data sets"
            )
        where = "train_dataloaders" if self.given.get("train") is not None else "train_dataloader()"
        is_sequential = bool(trainer.overfit_batches)
        self.train_source = sources.sources_of(several, where, is_sequential=is_sequential, is_training=True)[0]
        trainer.profiler.instrument_source(self.train_source)
        trainer.train_dataloader = loader
        total = sources.length_of(several[0])
        trainer.num_training_batches = sources.limited(total, trainer.limit_train_batches, "limit_train_batches", where)
        every = trainer.reload_dataloaders_every_n_epochs or 1
        # after a resume, too, the loader is asked for again in the epochs in which an uninterrupted run does it
        self.given["loaded"], self.loaded_epoch = module, trainer.current_epoch // every * every

    def reload_train_loader_if_due(self) -> None:
        """See Trainer.reload_train_loader_if_due."""
        trainer = self.trainer
        every = trainer.reload_dataloaders_every_n_epochs
        if every and trainer.current_epoch - self.loaded_epoch >= every:
            self.given["loaded"] = None
            self._load_train_loader()
            self._load_validation_loaders()

    def reloads_at(self, epoch: int) -> bool:
        """Whether an epoch begins with loaders that were asked for again."""
        every = self.trainer.reload_dataloaders_every_n_epochs
        return every > 0 and epoch % every == 0

    def _find_validation(self) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        trainer.enable_validation = overrides(module, LightModule, "validation_step") and trainer.limit_val_batches != 0

    def _load_validation_loaders(self) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        self._find_validation()
        found = None
        if trainer.enable_validation:
            found = sources.find_loaders("val", self.given.get("val"), trainer.datamodule, module)
        trainer.enable_validation = found is not None and len(sources.as_list(found)) > 0
        if trainer.enable_validation:
            self._take_loaders(trainer.validate_loop, "val", found)
        interval = trainer.validation_interval
        by_epoch = trainer.check_val_every_n_epoch is not None
        every = math.inf
        if trainer.enable_validation:
            every = batches_between(interval, trainer.num_training_batches, trainer.accumulate_grad_batches, by_epoch)
        self.validation_plan = make_plan(trainer, every)

    def _take_loaders(self, loop: EvaluationLoop, stage: str, found: Any) -> None:
        trainer = self.trainer
        loaders = sources.as_list(found)
        is_sequential = bool(trainer.overfit_batches) and trainer.fitting
        loop.results = None  # another module's or loader's names
        loop.sources = sources.sources_of(loaders, f"{stage}_dataloader()", is_sequential=is_sequential)
        limit = getattr(trainer, f"limit_{stage}_batches")
        name = f"limit_{stage}_batches"
        loop.limits = [sources.limited(sources.length_of(x), limit, name, f"{stage}_dataloader()") for x in loaders]
        trainer.loaders[stage] = found
        setattr(trainer, f"num_{stage}_batches", loop.limits)

    def estimated_stepping_batches(self) -> float:
        """See Trainer.estimated_stepping_batches."""
        trainer = self.trainer
        limit = math.inf if trainer.max_steps == -1 else trainer.max_steps
        if trainer.max_epochs in (None, -1):
            return limit
        self._load_train_loader()
        if trainer.num_training_batches == math.inf:
            return limit
        a_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        return min(limit, a_epoch * max(trainer.max_epochs, 1))

    # ------------------------------------------------------------ checkpoints

    def save_checkpoint(self, path: Any, weights_only: bool) -> None:
        """See Trainer.save_checkpoint."""
        trainer = self.trainer
        if trainer.lightning_module is None:
            raise ConfigError("trainer.save_checkpoint(): nothing to save yet; fit a module first")
        if trainer.fitting:
            trainer.fit_loop.check_finite()
        checkpoint = contents.gather(trainer, weights_only=weights_only)
        if trainer.is_global_zero:
            trainer.checkpoint_writer.save(checkpoint, path)
            if not trainer.fitting:
                trainer.checkpoint_writer.settle()
        trainer.strategy.barrier("save_checkpoint")
