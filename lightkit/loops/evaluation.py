"""One pass over evaluation data: validation, test, the sanity check; prediction.py builds on it.

with every random generator saved and restored, without gradients, in evaluation mode:
    on_start; for each loader: for each batch: prepare, step; on_epoch_end; metrics reduced, written; on_end
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightkit.data.order import Source
from lightkit.data.sources import batch_preparer
from lightkit.devices.transfer import batch_size_of
from lightkit.errors import HookError
from lightkit.hooks import accepts_positional, overrides, parameter_names
from lightkit.loops.modes import Modes, modes_of, put_back, switch_to_eval
from lightkit.loops.outputs import KeptOutputs, step_of
from lightkit.module import LightModule
from lightkit.results import Results
from lightkit.seeding import Snapshot

_END = object()


class EvaluationLoop:
    """Runs `<name>_step` over loaders; name is "validation", "test" or "predict"."""

    logs = True

    def __init__(self, trainer: Any, name: str):
        self.trainer, self.name = trainer, name
        self.sources: list[Source] = []
        self.limits: list[float] = []
        self.batch_idx = 0
        self.steps_logged = 0
        self.results: Results | None = None  # kept from one validation to the next, emptied

    # ------------------------------------------------------------ the pass

    def run(self, limits: list[float] | None = None) -> list[dict[str, float]]:
        """Evaluate; returns one dict of epoch metrics for each loader. limits: batches of each loader."""
        trainer = self.trainer
        if not trainer.fitting:
            trainer.board.clear()
            self.steps_logged = 0
        elif trainer.shows_steps:  # hooks in here find the last training step's values
            trainer.board.take(trainer.fit_loop.results, of_step=True)
        if self.results is None:
            self.results = Results(batch_size_of, is_training=False)
        self.results.clear()  # a pass that failed may have left values
        self.results.has_several_loaders = len(self.sources) > 1
        module, hook = trainer.lightning_module, f"{self.name}_epoch_end"
        self.kept = KeptOutputs(module, hook, is_training=False, loaders=len(self.sources))
        with self._quiet(), trainer.collect_into(self.results):
            metrics = self._pass(self.limits if limits is None else limits)
        if self.name == "validation" and not trainer.sanity_checking:
            # the generators, modes and gradients are the training's again: what is saved here can be resumed
            if trainer.fitting:
                trainer.fit_loop.schedules.move_validated()
            trainer.call("on_validation_end", owners="S")
        return metrics

    def _pass(self, limits: list[float]) -> list[dict[str, float]]:
        call, name, results = self.trainer.call, self.name, self.results
        assert results is not None
        call(f"on_{name}_start")
        call(f"on_{name}_epoch_start")
        self.trainer.dispatcher.refresh()
        prepare = self._prepare()
        step = self._step()
        starts, ends = (self.trainer.dispatcher.bind(f"on_{name}_batch_{when}", "CSM") for when in ("start", "end"))
        if len(self.sources) > 1:
            for fn in starts:
                self._check_takes_index(fn, 3)
            for fn in ends:
                self._check_takes_index(fn, 4)
        for loader_idx, (source, limit) in enumerate(zip(self.sources, limits, strict=True)):
            results.dataloader_idx = loader_idx
            where = (loader_idx,) if len(self.sources) > 1 else ()
            self._batches(source, limit, loader_idx, where, prepare, step, starts, ends)
            if where:
                results.end_loader(loader_idx)
        results.dataloader_idx = results.batch = None
        if self.kept.wanted:
            self.kept.finish(results)
            self.kept.forget()
        self.trainer.board.take(results, of_step=False)  # callbacks and the module read them in the next hook
        call(f"on_{name}_epoch_end")
        metrics = self._publish()
        if name != "validation":
            call(f"on_{name}_end")
            return metrics
        # those that watch a metric come first: saved before them, the validation is repeated after a resume, saved
        # after them it is not. Checkpoint callbacks come after the pass, see run
        call("on_validation_end", owners="W")
        if self.trainer.fitting and not self.trainer.sanity_checking:
            self.trainer.fit_loop.progress.end_validation()
        call("on_validation_end", owners="NM")
        return metrics

    def _batches(
        self, source: Source, limit: float, loader_idx: int, where: tuple[int, ...], prepare: Callable[..., Any] | None,
        step: Callable[..., Any], starts: list[Callable[..., Any]], ends: list[Callable[..., Any]],
    ) -> None:  # fmt: skip
        results, name = self.results, self.name
        assert results is not None
        on_start, on_step, on_end = f"on_{name}_batch_start", f"{name}_step", f"on_{name}_batch_end"
        batches = source.open(remember=False)
        index = 0
        while index < limit and (batch := next(batches, _END)) is not _END:
            self.batch_idx = index
            if prepare is not None:
                results.enter("on_after_batch_transfer")
                batch = prepare(batch, loader_idx)
            results.batch = batch
            if starts:
                results.enter(on_start)
                for fn in starts:
                    fn(batch, index, *where)
            results.enter(on_step)
            output = step(batch, index, loader_idx)
            if self.kept.wanted:
                self.kept.add(output, loader_idx)
            self._take_output(output, loader_idx, batch)
            if ends:
                results.enter(on_end)
                for fn in ends:
                    fn(output, batch, index, *where)
            if results.has_step_values:
                self._write_step()
            index += 1
        source.close()

    # ------------------------------------------------------------ what prediction does otherwise

    def _take_output(self, output: Any, loader_idx: int, batch: Any) -> None:
        """Nothing is kept here."""

    def _step(self) -> Callable[[Any, int, int], Any]:
        """The module's step as `(batch, batch_idx, loader_idx)`, whatever it takes, in the trainer's precision."""
        module, several = self.trainer.lightning_module, len(self.sources) > 1
        method = f"{self.name}_step"
        fn = self.trainer.precision.wrap(step_of(module, method))
        own = getattr(module, method)
        if several:
            self._check_takes_index(own, 3)
        if (several or "dataloader_idx" in parameter_names(own)) and accepts_positional(own, 3):
            return fn
        if accepts_positional(own, 2):
            return lambda batch, index, loader: fn(batch, index)
        return lambda batch, index, loader: fn(batch)

    def _check_takes_index(self, fn: Callable[..., Any], count: int) -> None:
        """Raise HookError where a step or batch hook cannot be told which of several loaders its batch is from."""
        if accepts_positional(fn, count):
            return
        hook: Any = getattr(fn, "func", fn)  # a callback's hook has its first arguments filled in
        owner, name = getattr(hook, "__self__", None), getattr(hook, "__name__", "the hook")
        names = [*([] if owner is None else ["self"]), *inspect.signature(hook).parameters]
        raise HookError(
            f"{'' if owner is None else type(owner).__name__ + '.'}{name} has no dataloader_idx argument, and there "
            f"are {len(self.sources)} loaders; write {name}({', '.join(names)}, dataloader_idx=0)"
        )

    # ------------------------------------------------------------ around the pass

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Leave generators, modes and gradient mode as they were found, whatever the pass does."""
        trainer, module = self.trainer, self.trainer.lightning_module
        saved, own = Snapshot(), [source.own_generators() for source in self.sources]
        trainer.training_rng = saved  # what a checkpoint taken inside the pass must hold
        if trainer.fitting and not trainer.sanity_checking:
            module.on_validation_model_zero_grad()
        modes = self._to_eval(module)
        try:
            with torch.inference_mode() if trainer.inference_mode else torch.no_grad():
                yield
        finally:
            self._to_train(module, modes)
            trainer.training_rng = None
            saved.restore()
            for source, states in zip(self.sources, own, strict=True):
                source.restore_own_generators(states)

    def _to_eval(self, module: LightModule) -> Modes:
        modes = modes_of(module)
        if overrides(module, LightModule, f"on_{self.name}_model_eval"):
            getattr(module, f"on_{self.name}_model_eval")()
        else:
            switch_to_eval(module, modes)
        return modes

    def _to_train(self, module: LightModule, modes: Modes) -> None:
        if overrides(module, LightModule, f"on_{self.name}_model_train"):
            getattr(module, f"on_{self.name}_model_train")()
        else:
            put_back(modes)

    def _prepare(self) -> Callable[[Any, int], Any] | None:
        t = self.trainer
        return batch_preparer(t.lightning_module, t.datamodule, t.strategy.root_device, t.precision, t.compute)

    # ------------------------------------------------------------ metrics

    def _publish(self) -> list[dict[str, float]]:
        """Reduce, show to callbacks, and write to the loggers."""
        trainer, results = self.trainer, self.results
        assert results is not None
        if results.has_step_values:
            trainer.board.take(results, of_step=True)
        taken = trainer.board.take(results, of_step=False)
        if not taken and not self.kept.wanted and trainer.state_fn in ("validate", "test") and self.name != "predict":
            warnings.warn(f"{self.name}_step logged nothing: there are no metrics to return", stacklevel=2)
        metrics: list[dict[str, float]] = [{} for _ in self.sources]
        for entry, number in taken:
            for loader_idx, target in enumerate(metrics):
                if entry.concerns(loader_idx):
                    target[entry.forked] = number
        results.clear()
        if self.logs and not trainer.sanity_checking:
            step = max(trainer.global_step - 1, 0) if trainer.fitting else trainer.global_step
            trainer.log_to_loggers({e.forked: n for e, n in taken if e.slot.logger}, step)
        return metrics

    def _write_step(self) -> None:
        trainer = self.trainer
        if trainer.sanity_checking or not trainer.loggers:
            return
        taken = trainer.board.take(self.results, of_step=True)
        progress = trainer.fit_loop.progress if trainer.fitting else self  # a resumed fit goes on counting
        trainer.log_to_loggers({e.forked: n for e, n in taken if e.slot.logger}, progress.steps_logged)
        progress.steps_logged += 1


def sanity_check(loop: EvaluationLoop, limits: list[float]) -> None:
    """Run a few validation batches before training; what they log is thrown away."""
    trainer = loop.trainer
    trainer.call("on_sanity_check_start")
    loop.run(limits)
    trainer.call("on_sanity_check_end")
    trainer.board.clear()
