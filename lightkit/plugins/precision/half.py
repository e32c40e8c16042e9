"""float16 or bfloat16 for everything."""

from __future__ import annotations

from typing import Literal

import torch

from lightkit.devices.reduced_precision import TruePrecision
from lightkit.errors import ConfigError

_DTYPES = {"16-true": torch.float16, "bf16-true": torch.bfloat16}


class HalfPrecision(TruePrecision):
    """16-true or bf16-true: parameters, buffers and floating-point batches are float16 or bfloat16."""

    def __init__(self, precision: Literal["16-true", "bf16-true"] = "16-true") -> None:
        if precision not in _DTYPES:
            raise ConfigError(f"HalfPrecision({precision!r}): expected '16-true' or 'bf16-true'")
        super().__init__(torch.device("cpu"), precision, _DTYPES[precision])
