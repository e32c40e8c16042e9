"""Kinds of training step beside the hot loop's own lines; each is loaded where a module or a Trainer asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import LBFGS

from lightkit.hooks import overrides
from lightkit.module import LightModule

if TYPE_CHECKING:
    from lightkit.contracts import Step
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun


def choose_step(run: FitRun, loop: TrainingLoop, before: Step | None) -> Step | None:
    """What does the steps of an epoch instead of the hot loop's own lines; None where nothing need.

    before: what did those of the last epoch; a recording is kept where it still fits.

    Raises:
        ConfigError: a step that cannot be recorded, or an optimizer that cannot work with the Trainer's arguments.
    """
    if not run.controls.takes_steps:
        from lightkit.loops.steps.forward import ForwardStep

        return ForwardStep(run, loop)
    if run.compute.recorder is not None:
        from lightkit.loops.steps.graph import graph_step

        return graph_step(run, loop, before)
    if run.manual is not None:
        return run.manual
    optimizer = run.optimizer
    if optimizer is None or not (isinstance(optimizer, LBFGS) or overrides(run.module, LightModule, "optimizer_step")):
        return None
    from lightkit.loops.steps.closure import ClosureStep

    return ClosureStep(run, loop, optimizer)
