"""An accumulation window that is open when a checkpoint is taken, or when an error ends the fit.

Between two micro-batches the window itself is saved: its gradients and what its micro-batches weigh. In the middle of
one there is nothing that could be gone on from: the position goes back to the window's first micro-batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.data.generators import States
from lightkit.data.order import Source, SourceState
from lightkit.errors import CheckpointError
from lightkit.loops.position import Counters
from lightkit.seeding import Snapshot

if TYPE_CHECKING:
    from lightkit.loops.training import TrainingLoop

Gradients = list[list[Tensor | None]]  # by optimizer, in the order of its parameters
# "micro": micro-batches in it; "size", "first", "reference", "weights": of the Window; "gradients": None where it was
# broken off
WindowState = dict[str, Any]


def state_of(loop: TrainingLoop) -> WindowState:
    """The open window, to be gone on with by `take_up`; of a broken one where it began."""
    window, manual = loop.window, loop.run.manual
    state: WindowState = {
        "micro": loop.micro, "size": window.size, "first": window.first, "reference": window.reference,
        "weights": list(window.weights), "gradients": None,
    }  # fmt: skip
    if manual is not None:
        state["gradients"] = _gradients(manual.bare, manual.waiting)
    elif loop.micro == len(window.weights):
        state["gradients"] = _gradients(loop.run.optimization.optimizers)
    else:
        warnings.warn(
            "a checkpoint in the middle of a training step: the resume goes back to the first micro-batch of its "
            "accumulation window, with the random numbers of now; to go on exactly, save in on_train_batch_end",
            stacklevel=2,
        )
    return state


def take_up(loop: TrainingLoop, state: WindowState) -> None:
    """Go on with a window that was open in the checkpoint.

    Raises:
        CheckpointError: its gradients are not those of the optimizers.
    """
    optimizers = loop.run.optimization.optimizers
    gradients: Gradients = state["gradients"]
    shapes = [[None if g is None else tuple(g.shape) for g in each] for each in gradients]
    wanted = [[tuple(p.shape) for p in _parameters(optimizer)] for optimizer in optimizers]
    fits = len(shapes) == len(wanted) and all(
        not mine or (len(mine) == len(own) and all(g in (None, s) for g, s in zip(mine, own, strict=True)))
        for mine, own in zip(shapes, wanted, strict=True)
    )
    if not fits:
        raise CheckpointError(
            "the checkpoint was taken inside an accumulation window, whose gradients do not fit the optimizers; "
            "resume with the module that was trained"
        )
    for optimizer, each in zip(optimizers, gradients, strict=True):
        if each:
            _give(optimizer, each)
    loop.go_on_with_window(state)


def _gradients(optimizers: list[Optimizer], of: set[int] | None = None) -> Gradients:
    """The gradients of each optimizer, of those in `of` alone."""
    return [[p.grad for p in _parameters(o)] if of is None or id(o) in of else [] for o in optimizers]


def _give(optimizer: Optimizer, gradients: list[Tensor | None]) -> None:
    for parameter, gradient in zip(_parameters(optimizer), gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.to(parameter.device, parameter.dtype)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@dataclass(frozen=True)
class _Moment:
    """The training between two batches, no window open: all that a batch changes before the weights move."""

    counters: Counters
    rng: Snapshot
    data: SourceState | None
    generators: States
    buffers: list[tuple[Tensor, Tensor]]  # each with a copy
    logged: dict[str, Any]  # values, and the state of metrics
    board: dict[str, Any]
    kept: list[int]  # how many outputs of the epoch, by loader
    gradients: Gradients  # of manual optimization, which has no windows
    versions: list[int]  # of the weights: how often each was written to


class Guard:
    """Brings the training back to where the accumulation window began in which an error ended it.

    For runs that save on an exception; a batch costs about 0.1 ms more, and the copies of the module's buffers.
    """

    def __init__(self, loop: TrainingLoop, source: Source):
        self.loop, self.source = loop, source
        self.moment: _Moment | None = None

    def batches(self, batches: Iterator[object]) -> Iterator[object]:
        """The same; before each the moment is kept, where no window is open."""
        try:
            while True:
                if self.loop.micro == 0:
                    self._take()
                yield next(batches)
        except StopIteration:
            return

    def _take(self) -> None:
        position, run = self.loop.position, self.loop.run
        manual, outputs = run.manual, position.outputs
        gradients = [] if manual is None else _gradients(manual.bare, manual.waiting)
        self.moment = _Moment(
            counters=replace(position.counters), rng=Snapshot(), data=self.source.moving_state(),
            generators=self.source.own_generators(), buffers=[(b, b.clone()) for b in run.module.buffers()],
            logged=position.logged_state(is_whole=True),
            board=run.board.state_dict(), kept=[] if outputs is None else [*map(len, outputs.outputs)],
            gradients=[[None if g is None else g.clone() for g in each] for each in gradients],
            versions=self._versions(),
        )  # fmt: skip

    def _versions(self) -> list[int]:
        return [p._version for optimizer in self.loop.run.optimization.optimizers for p in _parameters(optimizer)]

    def go_back(self) -> None:
        """After an error: to the moment kept last, unless the batch was done; warns where the weights moved."""
        loop, moment = self.loop, self.moment
        position, run = loop.position, loop.run
        counters = position.counters
        if moment is None or (counters.batches_done > moment.counters.batches_done and loop.micro == 0):
            return
        if counters.global_step != moment.counters.global_step or self._versions() != moment.versions:
            warnings.warn(
                "the error came after the weights had moved, and before the batch was done: what is saved now repeats "
                "the batch, it is not exact",
                stacklevel=2,
            )
            loop.open_window()  # what it held is spent
            return
        counters.go_back_to(moment.counters)
        moment.rng.restore()
        self.source.restore_own_generators(moment.generators)
        for buffer, copy in moment.buffers:
            buffer.data.copy_(copy)
        position.results.slots.clear()
        position.load_logged_state(moment.logged)
        run.board.load_state_dict(moment.board)
        kept = [] if position.outputs is None else position.outputs.outputs
        for outputs, count in zip(kept, moment.kept, strict=True):
            del outputs[count:]
        position.hold(moment.data)
        loop.open_window()
        manual = run.manual
        for index, optimizer in enumerate(run.optimization.optimizers):
            each = moment.gradients[index] if manual is not None else []
            _give(optimizer, each or [None] * len(_parameters(optimizer)))
