"""Number formats as objects; `Trainer(precision="bf16-mixed")` says the same in a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.devices.precision import Precision
    from lightkit.plugins.precision.amp import MixedPrecision
    from lightkit.plugins.precision.double import DoublePrecision
    from lightkit.plugins.precision.half import HalfPrecision

__all__ = ["DoublePrecision", "HalfPrecision", "MixedPrecision", "Precision"]

attach(
    __name__,
    {
        "DoublePrecision": "double", "HalfPrecision": "half", "MixedPrecision": "amp",
        "Precision": "lightkit.devices.precision",
    },
    ("amp", "double", "half", "precision"),
)  # fmt: skip
