"""The number format of a run: full precision, which does nothing; reduced_precision.py has what others do.

The loop wraps a step once before an epoch (`wrap`), and calls `backward`, `unscale` before clipping, `step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.contracts import P, R
from lightkit.errors import ConfigError, did_you_mean


class Precision:
    """Full precision, 32-true: every number stays as the user made it."""

    name = "32-true"
    converts_batch = False
    supports_closure = True
    scaler: torch.amp.GradScaler | None = None  # of the loss, where there is one

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def convert_module(self, module: nn.Module) -> None:
        """Bring parameters and buffers to this precision, in place."""

    def convert_batch(self, batch: Any) -> Any:
        """Return the batch in this precision; the loop asks only where `converts_batch` is true."""
        return batch

    def wrap(self, step_fn: Callable[P, R]) -> Callable[P, R]:
        """Return a function that runs `step_fn` in this precision: itself here, else one stack frame more."""
        return step_fn

    def scale(self, loss: Tensor) -> Tensor:
        """Return what to call `backward` on, for a user's own `backward` hook."""
        return loss

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a 0-dim loss."""
        loss.backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring the gradients to their true size, once before they are clipped, logged or stepped with."""

    def step(self, optimizer: Optimizer) -> None:
        """Update the parameters from their gradients."""
        optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; one saved under another precision is left alone."""


_NAMES = ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true")
_ALIASES = {"None": "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}


def choose_precision(value: str | int | Precision | None, device: torch.device) -> Precision:
    """Return the precision that `Trainer(precision=value)` asks for, on this device.

    Takes Lightning's names and its short ones: 32, 64, 16 and "bf16" (these two mean mixed), None (32-true).
    Raises ConfigError for an unknown one, and for float64 on MPS, which has none.
    """
    if isinstance(value, Precision):
        return value
    name = _ALIASES.get(str(value), str(value))
    if name not in _NAMES or isinstance(value, (bool, float)):
        expected = ", ".join(map(repr, _NAMES))
        hint = did_you_mean(value, [*_NAMES, *_ALIASES]) if isinstance(value, str) else ""
        raise ConfigError(f"Trainer(precision={value!r}): expected one of {expected}{hint}")
    if name == "64-true" and device.type == "mps":
        raise ConfigError(f"Trainer(precision={value!r}): an Apple GPU (mps) has no float64; use accelerator='cpu'")
    if name == Precision.name:
        return Precision(device)
    from lightkit.devices.reduced_precision import KINDS

    return KINDS[name](device)
