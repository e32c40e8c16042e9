"""How many processes train: in this version one; under Lightning's names for the package and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkit.lazy import attach

if TYPE_CHECKING:
    from lightkit.devices.strategies.base import SingleDeviceStrategy, Strategy

__all__ = ["SingleDeviceStrategy", "Strategy"]

attach(__name__, dict.fromkeys(__all__, "lightkit.devices.strategies.base"), ("single_device", "strategy"))
