"""The optimizer that a module's own `optimizer_step`, or manual optimization, gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

if TYPE_CHECKING:
    _Delegating = Optimizer  # for type checkers: whatever is not defined below is the optimizer's own
else:
    _Delegating = object


class SteppedOptimizer(_Delegating):
    """The optimizer that an overridden `optimizer_step` gets: its `step` also scales, clips and calls the hooks.

    Everything else is the optimizer's own.
    """

    def __init__(self, optimizer: Optimizer, update: Callable[..., Any]):
        self.optimizer = optimizer
        self._update = update

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Run the closure (forward, backward), then update the weights; returns the closure's loss."""
        return self._update(closure)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of a copy in the making, which has no optimizer yet
            raise AttributeError(name)
        return getattr(self.optimizer, name)
