"""One pass over evaluation data: validation, test, the sanity check; a prediction keeps what the steps return.

with every random generator saved and restored, without gradients, in evaluation mode:
    on_start; for each loader: for each batch: prepare, step; on_epoch_end; metrics reduced, written; on_end
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from lightkit.contracts import HookFn
from lightkit.data.order import Source
from lightkit.devices.transfer import to_cpu
from lightkit.errors import HookError, StoppedBySignal
from lightkit.hooks import accepts_positional, method_of, overrides, parameter_names
from lightkit.module import LightModule
from lightkit.results import Results
from lightkit.seeding import Snapshot
from lightkit.states import RunningStage

if TYPE_CHECKING:
    from lightkit.contracts import EpochOutputs
    from lightkit.run.base import Run

_END = object()

Modes = list[tuple[nn.Module, bool]]  # parts of a module, and whether they are in training mode


@dataclass(frozen=True)
class Context:
    """How a pass stands in its run: on its own, in a fit, or as a fit's sanity check.

    begin: before the first hook. decided: after the callbacks that watch a metric. step: what epoch metrics are written
    at. next_step: the same for those of a step, one more each time. writes: metrics go to the loggers.
    """

    stage: RunningStage
    begin: Callable[[], object] = bool  # nothing
    decided: Callable[[], object] = bool
    step: Callable[[], int] = int
    next_step: Callable[[], int] = int
    writes: bool = True


class EvaluationLoop:
    """Runs `<name>_step` over loaders; name is "validation", "test" or "predict". keeps: outputs are, on the CPU."""

    __slots__ = ("batch_idx", "kept", "limits", "name", "outputs", "results", "run", "sources")

    def __init__(self, run: Run, name: str, sources: list[Source], limits: list[float], *, keeps: bool = False):
        self.run, self.name, self.sources, self.limits = run, name, sources, limits
        self.batch_idx = 0
        # kept from one validation to the next, emptied
        self.results = Results(is_training=False, has_several_loaders=len(sources) > 1)
        self.outputs: EpochOutputs | None = None
        self.kept: list[list[object]] | None = [[] for _ in sources] if keeps else None  # by loader

    def read(self, sources: list[Source], limits: list[float]) -> None:
        """These are read from now on; while a pass is going on, before its first batch."""
        for source in self.sources:
            source.release()
        self.sources, self.limits = sources, limits

    # ------------------------------------------------------------ the pass

    def evaluate(self, context: Context, limits: list[float] | None = None) -> list[dict[str, float]]:
        """Evaluate; returns one dict of epoch metrics for each loader. limits: batches of each loader.

        After a validation the hooks of callbacks that save are still to be called: they come when the caller has taken
        up again what the pass interrupted.
        """
        context.begin()
        self.results.clear()  # a pass that failed may have left values
        self.outputs = self.run.outputs_of(f"{self.name}_epoch_end", self.results, loaders=len(self.sources))
        with self._quiet(context), self.run.collect_into(self.results):
            return self._pass(context, limits)

    def _pass(self, context: Context, limits: list[float] | None) -> list[dict[str, float]]:
        call, name, results, dispatcher = self.run.call, self.name, self.results, self.run.dispatcher
        call(f"on_{name}_start")
        call(f"on_{name}_epoch_start")
        limits = self.limits if limits is None else limits
        dispatcher.refresh()
        prepare, step, timing = self.run.preparer(), self._step(), self.run.evaluation_timing
        prepare = None if prepare is None else timing.timed("transfer", prepare)
        starts, ends = (dispatcher.bind(f"on_{name}_batch_{when}", "CSM") for when in ("start", "end"))
        if len(self.sources) > 1:
            for fn in starts:
                self._check_takes_index(fn, 3)
            for fn in ends:
                self._check_takes_index(fn, 4)
        for loader_idx, (source, limit) in enumerate(zip(self.sources, limits, strict=True)):
            results.dataloader_idx = loader_idx
            where = (loader_idx,) if len(self.sources) > 1 else ()
            source.set_epoch(self.run.position.counters.epoch)
            batches = timing.batches(timing.timed("open data", self.opened)(source, loader_idx))
            self._batches(context, batches, limit, loader_idx, where, prepare, step, starts, ends)
            del batches  # workers that do not stay end here, before those of the next loader begin
            source.close()
            if where:
                results.end_loader(loader_idx)
        results.dataloader_idx = results.batch = None
        results.end_loaders()
        kept, self.outputs = self.outputs, None
        if kept is not None:
            kept.finish()
        self.run.board.take(results, of_step=False)  # callbacks and the module read them in the next hook
        call(f"on_{name}_epoch_end")
        metrics = self._publish(context, is_bare=kept is None)
        if name != "validation":
            call(f"on_{name}_end")
            return metrics
        # those that watch a metric come first: saved before them, the validation is repeated after a resume, saved
        # after them it is not. Checkpoint callbacks come after the pass, see evaluate
        call("on_validation_end", owners="W")
        context.decided()
        call("on_validation_end", owners="NM")
        return metrics

    def _batches(
        self, context: Context, batches: Iterator[object], limit: float, loader_idx: int, where: tuple[int, ...],
        prepare: Callable[[object, int], object] | None, step: Callable[[object, int, int], object],
        starts: list[HookFn], ends: list[HookFn],
    ) -> None:  # fmt: skip
        results, name = self.results, self.name
        on_start, on_step, on_end = f"on_{name}_batch_start", f"{name}_step", f"on_{name}_batch_end"
        index, controls = 0, self.run.controls
        while index < limit and (batch := next(batches, _END)) is not _END:
            if controls.stop_signal and not self.run.is_nested:
                raise StoppedBySignal(controls.stop_signal)
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
            if self.outputs is not None:
                self.outputs.keep(output, loader_idx)
            if self.kept is not None:
                self.kept[loader_idx].append(to_cpu(output))
            if ends:
                results.enter(on_end)
                for fn in ends:
                    fn(output, batch, index, *where)
            if results.has_step_values and context.writes and self.run.loggers:
                self.run.write(self.run.board.take(results, of_step=True), context.next_step(), is_bare=True)
            index += 1

    def opened(self, source: Source, loader_idx: int) -> Iterator[object]:
        """The batches of a loader."""
        return source.open(remember=False)

    def _step(self) -> Callable[[object, int, int], object]:
        """The module's step as `(batch, batch_idx, loader_idx)`, whatever it takes, in the trainer's precision."""
        run, several = self.run, len(self.sources) > 1
        method = f"{self.name}_step"
        fn = run.evaluation_timing.timed("forward", run.precision.wrap(run.step_of(method)))
        own = method_of(run.module, LightModule, method)
        if several:
            self._check_takes_index(own, 3)
        if (several or "dataloader_idx" in parameter_names(own)) and accepts_positional(own, 3):
            return fn
        if accepts_positional(own, 2):
            return lambda batch, index, loader: fn(batch, index)
        return lambda batch, index, loader: fn(batch)

    def _check_takes_index(self, fn: HookFn, count: int) -> None:
        """Raise HookError where a step or batch hook cannot be told which of several loaders its batch is from."""
        if accepts_positional(fn, count):
            return
        hook: HookFn = getattr(fn, "func", fn)  # a callback's hook has its first arguments filled in
        owner, name = getattr(hook, "__self__", None), getattr(hook, "__name__", "the hook")
        names = [*([] if owner is None else ["self"]), *inspect.signature(hook).parameters]
        raise HookError(
            f"{'' if owner is None else type(owner).__name__ + '.'}{name} has no dataloader_idx argument, and there "
            f"are {len(self.sources)} loaders; write {name}({', '.join(names)}, dataloader_idx=0)"
        )

    # ------------------------------------------------------------ around the pass

    @contextmanager
    def _quiet(self, context: Context) -> Iterator[None]:
        """Leave generators, modes and gradient mode as they were found, whatever the pass does."""
        run, module = self.run, self.run.module
        saved, own = Snapshot(), [(source, source.own_generators()) for source in self.sources]
        with run.evaluating(context.stage, saved):
            modes = [(part, part.training) for part in module.modules()]
            self._switch("eval", module, lambda: _switch_to_eval(module, modes))
            try:
                # what a step keeps while a fit goes on is the training's next: inference tensors have no gradients
                is_alone = run.fn != "fit" and not run.is_nested
                with torch.inference_mode() if is_alone and run.controls.inference_mode else torch.no_grad():
                    yield
            finally:
                self._switch("train", module, lambda: _put_back(modes))
                saved.restore()
                for source, states in own:
                    source.restore_own_generators(states)

    def _switch(self, mode: str, module: LightModule, switch: Callable[[], None]) -> None:
        """The module's own hook switches the mode, where it has one."""
        hook = f"on_{self.name}_model_{mode}"
        getattr(module, hook)() if overrides(module, LightModule, hook) else switch()

    # ------------------------------------------------------------ metrics

    def _publish(self, context: Context, *, is_bare: bool) -> list[dict[str, float]]:
        run, results = self.run, self.results
        if results.has_step_values:
            run.board.take(results, of_step=True)
        taken = run.board.take(results, of_step=False)
        if not taken and is_bare and run.fn in ("validate", "test"):
            warnings.warn(f"{self.name}_step logged nothing: there are no metrics to return", stacklevel=2)
        metrics: list[dict[str, float]] = [{} for _ in self.sources]
        for entry, number in taken:
            for loader_idx, target in enumerate(metrics):
                if entry.concerns(loader_idx):
                    target[entry.forked] = number
        results.clear()
        if context.writes:
            run.write(taken, context.step())
        return metrics

    def release(self, *, has_failed: bool) -> None:
        """The run is over: let go of the last batch, and of processes."""
        self.results.batch = self.outputs = self.kept = None
        for source in self.sources:
            source.release(has_failed=has_failed)


def _switch_to_eval(module: nn.Module, modes: Modes) -> None:
    """As `module.eval()`; without going through every part's methods (4 microseconds each) where none has its own."""
    if "eval" not in vars(module) and all(
        _is_plain(part) and type(part).train is nn.Module.train and "train" not in vars(part) for part, _ in modes
    ):
        for part, _ in modes:
            vars(part)["training"] = False
    else:
        module.eval()


def _put_back(modes: Modes) -> None:
    for part, mode in modes:
        if _is_plain(part):
            vars(part)["training"] = mode
        else:
            part.training = mode


def _is_plain(part: nn.Module) -> bool:
    """Whether `training` is an ordinary attribute of the part; a scripted module keeps it elsewhere."""
    kind = type(part)
    return kind.__setattr__ is nn.Module.__setattr__ and kind.eval is nn.Module.eval and "training" in vars(part)
