"""Number formats of a run. Full precision does nothing; each other one overrides what differs.

The loop wraps a step once before an epoch (`wrap`), and calls `backward`, `unscale` before clipping, `step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.devices.transfer import map_tensors
from lightkit.errors import ConfigError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


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


class TruePrecision(Precision):
    """Parameters, buffers and floating-point batches in one dtype, also torch's default during a step."""

    converts_batch = True
    dtype: torch.dtype

    def convert_module(self, module: nn.Module) -> None:
        module.to(dtype=self.dtype)

    def convert_batch(self, batch: Any) -> Any:
        return map_tensors(batch, self._convert)

    def _convert(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def wrap(self, step_fn: Callable[P, R]) -> Callable[P, R]:
        dtype = self.dtype

        def step_with_default_dtype(*args: P.args, **kwargs: P.kwargs) -> R:
            before = torch.get_default_dtype()
            torch.set_default_dtype(dtype)
            try:
                return step_fn(*args, **kwargs)
            finally:
                torch.set_default_dtype(before)

        return step_with_default_dtype


class DoublePrecision(TruePrecision):
    """64-true: everything in float64."""

    name = "64-true"
    dtype = torch.float64


class BFloat16Precision(TruePrecision):
    """bf16-true: everything in bfloat16, optimizer state included."""

    name = "bf16-true"
    dtype = torch.bfloat16


class HalfPrecision(TruePrecision):
    """16-true: everything in float16; without a scaler, small gradients vanish."""

    name = "16-true"
    dtype = torch.float16


class BFloat16Mixed(Precision):
    """bf16-mixed: float32 parameters, bfloat16 where autocast finds it safe.

    bfloat16 has the range of float32, so no loss scale is needed.
    """

    name = "bf16-mixed"
    dtype = torch.bfloat16

    def wrap(self, step_fn: Callable[P, R]) -> Callable[P, R]:
        device_type, dtype = self.device.type, self.dtype

        def step_in_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
            # No cache: within one step it would go on with weights from before an update made in that step
            # (manual optimization, GANs). It saves a cast only where a step uses a weight twice.
            with torch.autocast(device_type, dtype=dtype, cache_enabled=False):
                return step_fn(*args, **kwargs)

        return step_in_autocast


class HalfMixed(BFloat16Mixed):
    """16-mixed: float32 parameters, float16 where autocast finds it safe, and a loss scale.

    float16 ends at 6e-8: the loss is multiplied so that gradients do not vanish, and a step whose gradients
    overflow is left out (Micikevicius et al. 2018). On the CPU too.
    """

    name = "16-mixed"
    dtype = torch.float16
    supports_closure = False  # the scaler must look at the gradients between the closure and the update
    scaler: torch.amp.GradScaler

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.scaler = torch.amp.GradScaler(device.type)

    def scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Update the parameters unless a gradient overflowed, and adapt the scale; reads the device."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self.scaler.load_state_dict(state)


_KINDS: dict[str, type[Precision]] = {
    kind.name: kind
    for kind in (Precision, HalfMixed, BFloat16Mixed, HalfPrecision, BFloat16Precision, DoublePrecision)
}
_ALIASES = {"None": "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}


def choose_precision(value: str | int | Precision | None, device: torch.device) -> Precision:
    """Return the precision that `Trainer(precision=value)` asks for, on this device.

    Takes Lightning's names and its short ones: 32, 64, 16 and "bf16" (these two mean mixed), None (32-true).
    Raises ConfigError for an unknown one, and for float64 on MPS, which has none.
    """
    if isinstance(value, Precision):
        return value
    name = _ALIASES.get(str(value), str(value))
    if name not in _KINDS or isinstance(value, (bool, float)):
        expected = ", ".join(map(repr, _KINDS))
        hint = did_you_mean(value, [*_KINDS, *_ALIASES]) if isinstance(value, str) else ""
        raise ConfigError(f"Trainer(precision={value!r}): expected one of {expected}{hint}")
    if name == "64-true" and device.type == "mps":
        raise ConfigError(f"Trainer(precision={value!r}): an Apple GPU (mps) has no float64; use accelerator='cpu'")
    return _KINDS[name](device)
