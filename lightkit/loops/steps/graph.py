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
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.callbacks.base import Callback
from lightkit.contracts import Step, Stepped, is_metric
from lightkit.devices.transfer import map_tensors
from lightkit.errors import ConfigError, LightkitError
from lightkit.hooks import overrides
from lightkit.loops.outputs import detached
from lightkit.loops.steps.graph_parts import BatchIndex, LearningRates, Notes, layout_of, options_of
from lightkit.module import LightModule

if TYPE_CHECKING:
    from lightkit.devices.capture import CudaRecorder as Recorder
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun

T = TypeVar("T")

WARM_UP = 3  # steps on batches of one shape before the next one is recorded
MOST_RECORDINGS = 5  # in one epoch, where options of the optimizer change
_MANY_ODD = 16  # batches of other shapes before they are spoken of
_IN_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_ENGINE = ("optimizer_zero_grad", "backward", "configure_gradient_clipping", "optimizer_step")


def graph_step(run: FitRun, loop: TrainingLoop, before: Step | None) -> GraphStep:
    """What runs the steps of an epoch; before: what ran those of the last, kept where the recording still fits.

    Raises:
        ConfigError: somebody takes part inside the step in Python, or nothing is updated.
    """
    module, optimizer, recorder = run.module, run.optimizer, run.compute.recorder
    where, name = "Trainer(cuda_graph=True)", type(module).__name__
    if optimizer is None:
        raise ConfigError(
            f"{where}: {name}.configure_optimizers returned None, so there is no update to capture; leave "
            "cuda_graph out"
        )
    if not module.automatic_optimization:
        raise ConfigError(
            f"{where}: {name}.automatic_optimization=False, and steps written by hand are not captured; leave "
            "cuda_graph out"
        )
    owners: list[tuple[object, type, tuple[str, ...]]] = [(module, LightModule, (*_IN_STEP, *_ENGINE))]
    owners += [(callback, Callback, _IN_STEP) for callback in run.callbacks]
    for owner, base, hooks in owners:
        for hook in hooks:
            if overrides(owner, base, hook):
                raise ConfigError(
                    f"{where}: {type(owner).__name__}.{hook} would run only while the step is captured; use "
                    "on_train_batch_start or on_train_batch_end, or leave cuda_graph out"
                )
    if isinstance(before, GraphStep) and before.goes_on(optimizer):
        return before
    assert recorder is not None
    return GraphStep(loop, module, optimizer, recorder, run.device)


class GraphStep:
    """Runs, records and launches steps of one module and optimizer."""

    def __init__(
        self, loop: TrainingLoop, module: LightModule, optimizer: Optimizer, recorder: Recorder, device: torch.device
    ):  # fmt: skip
        self.loop, self.module, self.optimizer, self.recorder, self.device = loop, module, optimizer, recorder, device
        self.rates = LearningRates(optimizer, device)
        self.memory = _memory_of(module)
        self.layout: object = None  # of the batches that are warmed up with, or were recorded
        self.warm = self.recordings = self.launched = self.odd = 0
        self.launch: Callable[[], None] | None = None
        self.inputs: list[Tensor] = []
        self.logged: Notes | None = None
        self.gradients: list[tuple[Tensor, Tensor]] = []
        self.options: list[dict[str, object]] = []
        self.output: object = None
        self.loss: Tensor | None = None

    def goes_on(self, optimizer: Optimizer) -> bool:
        """Whether a new epoch, with its own few recordings, finds weights, modes and optimizer where they were."""
        self.recordings = 0
        return self.rates.groups is optimizer.param_groups and self.memory == _memory_of(self.module)

    def release(self) -> None:
        """As Step.release: the recording's memory, also where somebody still holds an error of this fit."""
        self.launch = self.logged = self.output = self.loss = None
        self.inputs, self.gradients, self.options = [], [], []

    def finish(self) -> None:
        """As Step.finish; no window is ever open here."""

    def __call__(self, batch: object, index: int, is_last: bool) -> Stepped:
        """One step: as it is, recorded and launched, or launched."""
        tensors: list[Tensor] = []
        layout = layout_of(batch, tensors)
        self.rates.refresh()
        if self.launch is None:
            return self._before_recording(batch, index, layout)
        if layout != self.layout:
            self.odd += 1
            if self.odd == _MANY_ODD and self.odd > self.launched:
                warnings.warn(
                    f"Trainer(cuda_graph=True): {self.odd} batches had other shapes than the captured one and ran "
                    f"without the graph, {self.launched} ran with it; pad them to one shape, or leave cuda_graph out",
                    stacklevel=2,
                )
            return self._run(batch, index)
        if self.options != options_of(self.optimizer):
            self._check_recordings()
            self._record(batch)
        else:
            torch._foreach_copy_(self.inputs, tensors)
        return self._launch()

    # ------------------------------------------------------------ before there is a recording

    def _before_recording(self, batch: object, index: int, layout: object) -> Stepped:
        if layout != self.layout:
            self.layout, self.warm = layout, 0
        self.warm += 1
        if self.warm < WARM_UP:
            return self.recorder.warm_up(lambda: self._run(batch, index))
        if self.warm == WARM_UP:
            return self._rehearse(batch)
        self._record(batch)
        return self._launch()

    def _run(self, batch: object, index: int | BatchIndex, *, counts: bool = True) -> Stepped:
        """The step as it is, with the learning rates where a recording has them."""
        loop = self.loop
        parts = loop.parts
        output = parts.training_step(batch, index)
        has_learned = loop.learn(output, 0)
        output = detached(output)
        if has_learned and loop.loss is not None:
            loop.keep_loss(loop.loss.detach())  # its graph would keep autograd's nodes on this stream
            if parts.complete_gradients is not None:
                parts.complete_gradients()
            with self.rates.in_place(), warnings.catch_warnings():
                # torch tells of capturable optimizers that step outside of a graph: these do for a few steps
                warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
                loop.run.precision.step(self.optimizer)
            if counts:
                loop.count_update()
        return Stepped(output, has_learned)

    def _rehearse(self, batch: object) -> Stepped:
        """A step that fails where a recorded one would go on with what it saw once."""
        updates = _metric_updates(self.module)
        with self._taking_notes() as notes:
            stepped = self._guarded(lambda: self.recorder.rehearse(lambda: self._run(batch, BatchIndex())))
        if not stepped.has_stepped:
            raise ConfigError(
                f"{self._where()} returned None for a batch; a captured step learns from each, so leave such batches "
                "out of the data, or cuda_graph out"
            )
        for name, count in _metric_updates(self.module).items():
            if count != updates[name]:
                raise ConfigError(
                    f"{self._where()} updates the metric {name}, which a captured step would do once; update it in "
                    "on_train_batch_end, log a tensor instead, or leave cuda_graph out"
                )
        notes.play(self.loop.results)
        return Stepped(stepped.output, True)

    # ------------------------------------------------------------ recording and launching

    def _record(self, batch: object) -> None:
        inputs = map_tensors(batch, torch.clone)
        self.inputs = []
        layout_of(inputs, self.inputs)
        self.optimizer.zero_grad(set_to_none=True)  # gradients of the recording are made in its own memory
        # a recording must know of the generators that the module's parts hold on the device
        held = [g for part in self.module.modules() for g in vars(part).values() if isinstance(g, torch.Generator)]
        generators = [g for g in dict.fromkeys(held) if g.device == self.device]
        with self._taking_notes() as notes:
            stepped, self.launch = self._guarded(
                # the step is recorded, not done: it does not count
                lambda: self.recorder.record(lambda: self._run(inputs, BatchIndex(), counts=False), generators)
            )
        self.output, self.logged, self.loss = stepped.output, notes, self.loop.loss
        parameters: list[Tensor] = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]
        self.options = options_of(self.optimizer)
        self.recordings += 1

    def _launch(self) -> Stepped:
        loop, parts = self.loop, self.loop.parts
        assert self.launch is not None and self.logged is not None and self.loss is not None
        if self.gradients and self.gradients[0][0].grad is not self.gradients[0][1]:
            for parameter, gradient in self.gradients:  # a validation or an odd batch came in between
                parameter.grad = gradient
        self.launch()
        self.launched += 1
        loop.keep_loss(self.loss)
        loop.count_update()
        self.logged.play(loop.results)
        wanted = parts.on_batch_end or parts.save_on_batch_end or loop.position.outputs is not None
        # copies: the recording writes the next step's values into the same memory
        return Stepped(map_tensors(self.output, torch.clone) if wanted else self.output, True)

    def _check_recordings(self) -> None:
        if self.recordings < MOST_RECORDINGS:
            return
        pairs = enumerate(zip(self.options, options_of(self.optimizer), strict=False))
        number, name = next((i, name) for i, (was, now) in pairs for name in now if was.get(name) != now[name])
        raise ConfigError(
            f"Trainer(cuda_graph=True): {name!r} in parameter group {number} of {type(self.optimizer).__name__} "
            f"changes from step to step, and a captured step keeps it ({MOST_RECORDINGS} captures in this epoch); hold "
            "it fixed, as with OneCycleLR(cycle_momentum=False), or leave cuda_graph out"
        )

    # ------------------------------------------------------------ what goes wrong in there

    def _where(self) -> str:
        return f"Trainer(cuda_graph=True): {type(self.module).__name__}.training_step"

    def _guarded(self, work: Callable[[], T]) -> T:
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
        loop = self.loop
        results = loop.results
        notes = Notes(results, self._where())
        loop.collect_into(notes)
        try:
            with loop.run.collect_into(notes):
                yield notes
        finally:
            loop.collect_into(results)


def _memory_of(module: nn.Module) -> list[object]:
    """Where weights and buffers lie, which of them learn, and the mode of each part."""
    tensors = [(t.data_ptr(), t.requires_grad) for t in (*module.parameters(), *module.buffers())]
    return [*tensors, *(part.training for part in module.modules())]


def _metric_updates(module: nn.Module) -> dict[str, int]:
    return {name: part._update_count for name, part in module.named_modules() if is_metric(part)}
