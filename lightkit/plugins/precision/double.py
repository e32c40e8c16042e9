"""float64 for everything."""

from __future__ import annotations

import torch

from lightkit.devices.reduced_precision import TruePrecision
from lightkit.foreign_names import answering


class DoublePrecision(TruePrecision):
    """64-true: parameters, buffers and floating-point batches are float64."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), "64-true", torch.float64)


def __getattr__(name: str) -> object:
    return answering(__name__)(name)
