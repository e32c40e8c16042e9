"""The step of an epoch in which no weight changes: batch norms gather statistics, for example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.contracts import Stepped
from lightkit.loops.outputs import loss_of

if TYPE_CHECKING:
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun


class ForwardStep:
    """A Step: `training_step` runs with all hooks around it, without backward and update."""

    def __init__(self, run: FitRun, loop: TrainingLoop):
        self.run, self.loop = run, loop

    def __call__(self, batch: object, index: int, is_last: bool) -> Stepped:
        """Run one batch forward."""
        output = self.loop.parts.training_step(batch, index)
        loss = loss_of(output, self.run.module, self.run.log_returned)
        if loss is not None:
            self.loop.keep_loss(loss)
        return Stepped(output, False)

    def finish(self) -> None:
        """As Step.finish; no window is open."""

    def release(self) -> None:
        """As Step.release; nothing is held here."""
