"""The optimizer that `self.optimizers()` and an overridden `optimizer_step` give."""

from __future__ import annotations

from lightkit.stepped_optimizer import SteppedOptimizer
from lightkit.stepped_optimizer import SteppedOptimizer as LightningOptimizer

__all__ = ["LightningOptimizer", "SteppedOptimizer", "do_nothing_closure"]


def do_nothing_closure() -> None:
    """A closure for an optimizer that wants one."""
