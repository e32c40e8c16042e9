"""The optimizer that a module's own `optimizer_step`, or manual optimization, gets; whose parameters get gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
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


def toggle(optimizer: Optimizer, optimizers: Iterable[Optimizer]) -> dict[Tensor, bool]:
    """Let only this one's parameters get gradients; -> which of all did before."""
    before: dict[Tensor, bool] = {}
    for other in optimizers:
        for parameter in _parameters_of(other):
            if parameter not in before:
                before[parameter] = parameter.requires_grad
                parameter.requires_grad = False
    for parameter in _parameters_of(optimizer):
        parameter.requires_grad = before[parameter]
    return before


def untoggle(optimizer: Optimizer, before: Mapping[Tensor, bool]) -> None:
    """Let those of the other optimizers get gradients again that did before."""
    own = set(_parameters_of(optimizer))
    for parameter, requires_grad in before.items():
        if parameter not in own:
            parameter.requires_grad = requires_grad


def _parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
