"""The training step recorded once and launched as a whole: forward, backward, clipping, update.

The first steps run as they are, on real batches; then one is recorded, and from there on a step is: copy the batch into
the recorded one's memory, launch, log. The Python of `training_step` does not run again: what it logs are the recorded
tensors, read anew after each launch; learning rates are tensors on the device that are filled before it. A batch of
another shape runs as it is. What would silently keep the value of the recorded step is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightkit.devices.transfer import map_tensors
from lightkit.errors import ConfigError, LightkitError
from lightkit.hooks import overrides
from lightkit.loops.closure import ClosureStep, needs_closure
from lightkit.loops.graph_parts import BatchIndex, LearningRates, Notes, layout_of, options_of
from lightkit.loops.outputs import detached
from lightkit.module import LightModule
from lightkit.results import metric_states

WARM_UP = 3  # steps on batches of one shape before the next one is recorded
MOST_RECORDINGS = 5  # in one epoch, where options of the optimizer change
_MANY_ODD = 16  # batches of other shapes before they are spoken of
_IN_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_ENGINE = ("optimizer_zero_grad", "backward", "configure_gradient_clipping", "optimizer_step")


def whole_step(loop: Any) -> Any:
    """What runs a step instead of the hot loop's own lines, `(batch, batch_idx, is_last) -> (output, has_stepped)`.

    Raises:
        ConfigError: a step that cannot be recorded.
    """
    if loop.trainer.compute.recorder is None:
        return loop.manual or (ClosureStep(loop) if needs_closure(loop) else None)
    check_recordable(loop)
    kept = getattr(loop, "closure_step", None)
    if isinstance(kept, GraphStep) and kept.still_fits():
        kept.recordings = 0
        return kept
    return GraphStep(loop)


def check_recordable(loop: Any) -> None:
    """Raise ConfigError where somebody takes part inside the step in Python, or nothing is updated."""
    trainer, module = loop.trainer, loop.module
    where, name = "Trainer(cuda_graph=True)", type(module).__name__
    if loop.optimizer is None:
        raise ConfigError(
            f"{where}: {name}.configure_optimizers returned None, so there is no update to capture; leave "
            "cuda_graph out"
        )
    if not module.automatic_optimization:
        raise ConfigError(
            f"{where}: {name}.automatic_optimization=False, and steps written by hand are not captured; leave "
            "cuda_graph out"
        )
    owners: list[tuple[Any, type, tuple[str, ...]]] = [(module, LightModule, (*_IN_STEP, *_ENGINE))]
    owners += [(callback, trainer.dispatcher.callback_base, _IN_STEP) for callback in trainer.callbacks]
    for owner, base, hooks in owners:
        for hook in hooks:
            if overrides(owner, base, hook):
                raise ConfigError(
                    f"{where}: {type(owner).__name__}.{hook} would run only while the step is captured; use "
                    "on_train_batch_start or on_train_batch_end, or leave cuda_graph out"
                )


class GraphStep:
    """Runs, records and launches steps of one module and optimizer."""

    def __init__(self, loop: Any):
        self.loop, self.recorder = loop, loop.trainer.compute.recorder
        self.rates = LearningRates(loop.optimizer, loop.trainer.strategy.root_device)
        self.memory = _memory_of(loop.module)
        self.layout: Any = None  # of the batches that are warmed up with, or were recorded
        self.warm = 0
        self.recordings = 0
        self.launched = self.odd = 0
        self.launch: Callable[[], None] | None = None
        self.inputs: list[Tensor] = []
        self.logged: Any = None
        self.gradients: list[tuple[Tensor, Tensor]] = []
        self.options: list[Any] = []
        self.output: Any = None
        self.loss: Any = None

    def still_fits(self) -> bool:
        """Whether a new epoch finds weights, modes and optimizer where the recording has them."""
        loop = self.loop
        return self.rates.groups is loop.optimizer.param_groups and self.memory == _memory_of(loop.module)

    def finish(self) -> None:
        """As ClosureStep.finish; no window is ever open here."""

    def __call__(self, batch: Any, index: int, is_last: bool) -> tuple[Any, bool]:
        """One step: as it is, recorded and launched, or launched."""
        tensors: list[Tensor] = []
        layout = layout_of(batch, tensors)
        self.rates.refresh()
        if self.launch is None:
            return self._before_recording(batch, index, layout)
        if layout != self.layout:
            self._note_odd()
            return self._run(batch, index)
        if self.options != options_of(self.loop.optimizer):
            self._check_recordings()
            self._record(batch)
        else:
            torch._foreach_copy_(self.inputs, tensors)
        return self._launch()

    # ------------------------------------------------------------ before there is a recording

    def _before_recording(self, batch: Any, index: int, layout: Any) -> tuple[Any, bool]:
        if layout != self.layout:
            self.layout, self.warm = layout, 0
        self.warm += 1
        if self.warm < WARM_UP:
            return self.recorder.warm_up(lambda: self._run(batch, index))
        if self.warm == WARM_UP:
            return self._rehearse(batch)
        self._record(batch)
        return self._launch()

    def _run(self, batch: Any, index: Any) -> tuple[Any, bool]:
        """The step as it is, with the learning rates where a recording has them."""
        loop = self.loop
        output = loop.training_step(batch, index)
        has_learned = loop.learn(output, index)
        output = detached(output)
        if has_learned:
            loop.loss = loop.loss.detach()  # its graph would keep autograd's nodes on this stream
            if loop.completes_gradients:
                loop.complete_gradients()
            with self.rates.in_place(), warnings.catch_warnings():
                # torch tells of capturable optimizers that step outside of a graph: these do for a few steps
                warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
                loop.precision.step(loop.optimizer)
            loop.progress.global_step += 1
        return output, has_learned

    def _rehearse(self, batch: Any) -> tuple[Any, bool]:
        """A step that fails where a recorded one would go on with what it saw once."""
        loop = self.loop
        updates = _metric_updates(loop.module)
        with self._taking_notes() as notes:
            output, has_learned = self._guarded(lambda: self.recorder.rehearse(lambda: self._run(batch, BatchIndex())))
        if not has_learned:
            raise ConfigError(
                f"{self._where()} returned None for a batch; a captured step learns from each, so leave such batches "
                "out of the data, or cuda_graph out"
            )
        for name, count in _metric_updates(loop.module).items():
            if count != updates[name]:
                raise ConfigError(
                    f"{self._where()} updates the metric {name}, which a captured step would do once; update it in "
                    "on_train_batch_end, log a tensor instead, or leave cuda_graph out"
                )
        notes.play(loop.results)
        return output, True

    # ------------------------------------------------------------ recording and launching

    def _record(self, batch: Any) -> None:
        loop = self.loop
        step = loop.progress.global_step
        inputs = map_tensors(batch, torch.clone)
        self.inputs = []
        layout_of(inputs, self.inputs)
        loop.optimizer.zero_grad(set_to_none=True)  # gradients of the recording are made in its own memory
        generators = _generators_of(loop.module, loop.trainer.strategy.root_device)
        with self._taking_notes() as notes:
            (self.output, _), self.launch = self._guarded(
                lambda: self.recorder.record(lambda: self._run(inputs, BatchIndex()), generators)
            )
        loop.progress.global_step = step  # the step has been recorded, not done
        self.logged, self.loss = notes, loop.loss
        parameters = [p for group in loop.optimizer.param_groups for p in group["params"]]
        self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]
        self.options = options_of(loop.optimizer)
        self.recordings += 1

    def _launch(self) -> tuple[Any, bool]:
        loop = self.loop
        assert self.launch is not None
        if self.gradients and self.gradients[0][0].grad is not self.gradients[0][1]:
            for parameter, gradient in self.gradients:  # a validation or an odd batch came in between
                parameter.grad = gradient
        self.launch()
        self.launched += 1
        loop.loss = self.loss
        loop.progress.global_step += 1
        self.logged.play(loop.results)
        wanted = loop.on_batch_end or loop.save_on_batch_end or loop.kept.wanted
        # copies: the recording writes the next step's values into the same memory
        return map_tensors(self.output, torch.clone) if wanted else self.output, True

    def _note_odd(self) -> None:
        self.odd += 1
        if self.odd == _MANY_ODD and self.odd > self.launched:
            warnings.warn(
                f"Trainer(cuda_graph=True): {self.odd} batches had other shapes than the captured one and ran without "
                f"the graph, {self.launched} ran with it; pad them to one shape, or leave cuda_graph out",
                stacklevel=2,
            )

    def _check_recordings(self) -> None:
        if self.recordings < MOST_RECORDINGS:
            return
        pairs = enumerate(zip(self.options, options_of(self.loop.optimizer), strict=False))
        number, name = next((i, name) for i, (was, now) in pairs for name in now if was.get(name) != now[name])
        raise ConfigError(
            f"Trainer(cuda_graph=True): {name!r} in parameter group {number} of {type(self.loop.optimizer).__name__} "
            f"changes from step to step, and a captured step keeps it ({MOST_RECORDINGS} captures in this epoch); hold "
            "it fixed, as with OneCycleLR(cycle_momentum=False), or leave cuda_graph out"
        )

    # ------------------------------------------------------------ what goes wrong in there

    def _where(self) -> str:
        return f"Trainer(cuda_graph=True): {type(self.loop.module).__name__}.training_step"

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Do the work; what fails in torch is told as what it means."""
        try:
            return work()
        except LightkitError:
            raise
        except RuntimeError as error:
            own = error.__context__  # leaving a recording that failed fails once more
            if isinstance(own, LightkitError):
                raise own from None
            first = (str(own or error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"{self._where()} cannot be captured: {first}. Most often it reads the device (.item(), .cpu(), print, "
                "a mask as an index) or makes a tensor from Python numbers there; change that, or leave cuda_graph out"
            ) from error

    @contextmanager
    def _taking_notes(self) -> Iterator[Notes]:
        """Let `self.log` note what it was given, instead of collecting it."""
        loop, module = self.loop, self.loop.module
        results = loop.results
        loop.results = module.__dict__["_results"] = notes = Notes(results, self._where())
        try:
            yield notes
        finally:
            loop.results = module.__dict__["_results"] = results


def _memory_of(module: Any) -> list[Any]:
    """Where weights and buffers lie, which of them learn, and the mode of each part."""
    tensors = [(t.data_ptr(), t.requires_grad) for t in (*module.parameters(), *module.buffers())]
    return [*tensors, *(part.training for part in module.modules())]


def _metric_updates(module: Any) -> dict[str, int]:
    return {name: state["updates"] for name, state in metric_states(module).items()}


def _generators_of(module: Any, device: torch.device) -> list[torch.Generator]:
    """Generators that the module's parts hold on the device; a recording must know of them."""
    found = [g for part in module.modules() for g in vars(part).values() if isinstance(g, torch.Generator)]
    return [g for g in dict.fromkeys(found) if g.device == device]
