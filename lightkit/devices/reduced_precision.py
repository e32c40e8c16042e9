"""Number formats other than float32, each on top of `Precision` with what differs; loaded when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.contracts import P, R
from lightkit.devices.precision import Precision
from lightkit.devices.transfer import map_tensors


class TruePrecision(Precision):
    """Parameters, buffers and floating-point batches in one dtype, also torch's default during a step."""

    converts_batch = True

    def __init__(self, device: torch.device, name: str, dtype: torch.dtype) -> None:
        super().__init__(device)
        self.name, self.dtype = name, dtype

    def convert_module(self, module: nn.Module) -> None:
        module.to(dtype=self.dtype)

    def convert_batch(self, batch: Any) -> Any:
        return map_tensors(batch, lambda tensor: tensor.to(self.dtype) if tensor.is_floating_point() else tensor)

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
        from lightkit.schema import NUMBER, WHOLE, Record

        factors = {"scale": NUMBER, "growth_factor": NUMBER, "backoff_factor": NUMBER}
        form = {**factors, "growth_interval": WHOLE, "_growth_tracker": WHOLE}
        Record({} if state == {} else form).check(state)
        if state:
            self.scaler.load_state_dict(state)


KINDS: dict[str, Callable[[torch.device], Precision]] = {
    "16-mixed": HalfMixed,
    "bf16-mixed": BFloat16Mixed,
    "16-true": partial(TruePrecision, name="16-true", dtype=torch.float16),  # without a scaler small gradients vanish
    "bf16-true": partial(TruePrecision, name="bf16-true", dtype=torch.bfloat16),  # optimizer state included
    "64-true": partial(TruePrecision, name="64-true", dtype=torch.float64),
}
