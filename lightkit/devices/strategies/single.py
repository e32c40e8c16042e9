"""Training in one process on one device."""

from __future__ import annotations

from lightkit.devices.strategies.base import Strategy


class SingleDeviceStrategy(Strategy):
    """One process, one device: nothing to agree on."""

    name = "single_device"
