"""float32 parameters, and a shorter format where autocast finds it safe."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightkit.devices.reduced_precision import HalfMixed
from lightkit.errors import ConfigError

_DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class MixedPrecision(HalfMixed):
    """16-mixed, with a loss scale, or bf16-mixed, which needs none.

    Args:
        precision: "16-mixed" or "bf16-mixed".
        device: the kind of device, "cpu" or "cuda".
        scaler: of the loss, with settings of your own; only for "16-mixed".
    """

    scaler: torch.amp.GradScaler | None  # type: ignore[assignment]

    def __init__(
        self, precision: Literal["16-mixed", "bf16-mixed"], device: str, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        if precision not in _DTYPES:
            raise ConfigError(f"MixedPrecision({precision!r}, ...): expected '16-mixed' or 'bf16-mixed'")
        if precision == "bf16-mixed" and scaler is not None:
            raise ConfigError("MixedPrecision('bf16-mixed', scaler=...): bfloat16 needs no scaler; leave it out")
        super().__init__(torch.device(device))
        self.name, self.dtype = precision, _DTYPES[precision]
        if precision == "bf16-mixed":
            self.scaler, self.supports_closure = None, True
        elif scaler is not None:
            self.scaler = scaler

    def scale(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else super().scale(loss)

    def backward(self, loss: Tensor) -> None:
        if self.scaler is None:
            loss.backward()
        else:
            super().backward(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        if self.scaler is not None:
            super().unscale(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
        else:
            super().step(optimizer)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scaler is None else super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.scaler is not None:
            super().load_state_dict(state)
