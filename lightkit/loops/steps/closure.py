"""The step with a closure: LBFGS, and modules that override `optimizer_step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor
from torch.optim import LBFGS, Optimizer

from lightkit.contracts import Stepped
from lightkit.errors import ConfigError
from lightkit.hooks import method_of
from lightkit.module import LightModule
from lightkit.stepped_optimizer import SteppedOptimizer

if TYPE_CHECKING:
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun


class _NothingLearnedError(Exception):
    """Leaves `optimizer.step` from inside its closure, before anything is updated."""


class ClosureStep:
    """A Step: forward and backward run when the module's `optimizer_step` calls for them.

    Raises:
        ConfigError: LBFGS with what it cannot work with.
    """

    def __init__(self, run: FitRun, loop: TrainingLoop, optimizer: Optimizer):
        self.loop, self.precision, self.optimizer = loop, run.precision, optimizer
        self.optimizer_step = method_of(run.module, LightModule, "optimizer_step")
        self.accumulate = accumulate = run.controls.accumulate_grad_batches
        if isinstance(optimizer, LBFGS) and accumulate > 1:
            raise ConfigError(
                f"Trainer(accumulate_grad_batches={accumulate}): LBFGS evaluates its batch several times a step; use 1"
            )
        if isinstance(optimizer, LBFGS) and not run.precision.supports_closure:
            raise ConfigError(
                f"Trainer(precision={run.precision.name!r}): LBFGS does not work with a gradient scaler; use '32-true'"
            )
        self.stepped = SteppedOptimizer(optimizer, run.timing.timed("optimizer", self._update))
        self.has_updated = False  # the module's optimizer_step that is running, or ran last
        self.is_due = False  # the window holds gradients to update with; not those that the last update left behind

    def __call__(self, batch: object, index: int, is_last: bool) -> Stepped:
        """Run one micro-batch; at the window's end through the module's optimizer_step."""
        loop = self.loop
        output: object = None
        is_skipped = False
        self.is_due = loop.micro > 0

        def closure() -> Tensor | None:
            nonlocal output, is_skipped
            output = loop.parts.training_step(batch, index)
            is_skipped = not loop.learn(output, index)
            self.is_due = not is_skipped or (is_last and loop.micro > 0)
            # detached, as torch warns where a loss that carries its graph is read
            return None if is_skipped or loop.loss is None else loop.loss.detach()

        if loop.micro + 1 < self.accumulate and not is_last:
            closure()
            if not is_skipped:
                loop.add_micro_batch()
            return Stepped(output, False)
        self._step(index, closure)
        if is_skipped and not is_last:
            return Stepped(output, False)  # the window waits for a batch that counts
        loop.open_window()  # also where the module's optimizer_step left the update out
        return Stepped(output, self.has_updated)

    def finish(self) -> None:
        """As Step.finish; what the window holds has been through backward already."""
        loop = self.loop
        self.is_due = True
        assert loop.loss is not None
        self._step(loop.progress.batches_done - 1, loop.loss.detach)
        loop.open_window()

    def _step(self, index: int, closure: Callable[[], Tensor | None]) -> None:
        """The module's `optimizer_step`, which finds `global_step` as it was before the update from its first line to
        its last: a warm-up is written there after `optimizer.step`."""
        self.has_updated = False
        self.optimizer_step(self.loop.progress.epoch, index, self.stepped, closure)
        if self.has_updated:
            self.loop.count_update()

    def release(self) -> None:
        """As Step.release; nothing is held here."""

    def _complete_gradients(self) -> None:
        complete = self.loop.parts.complete_gradients
        if complete is not None:
            complete()

    def _update(self, closure: Callable[[], object] | None) -> object:
        """What `optimizer.step(closure)` does for the user; nothing where training_step returned None."""
        loss: object = None
        if closure is not None and self.precision.supports_closure:

            def complete() -> object:
                loss = closure()
                if not self.is_due:
                    raise _NothingLearnedError
                self._complete_gradients()
                return loss

            try:
                loss = self.optimizer.step(complete)  # type: ignore[arg-type]
            except _NothingLearnedError:
                return None
        else:
            loss = closure() if closure is not None else None
            if not self.is_due:
                return None
            self._complete_gradients()
            self.precision.step(self.optimizer)
        self.has_updated = True
        return loss
