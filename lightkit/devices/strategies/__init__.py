"""The strategies, and the choice that `Trainer(strategy=...)` asks for."""

from __future__ import annotations

from lightkit.devices.strategies.base import Strategy
from lightkit.devices.strategies.single import SingleDeviceStrategy
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["SingleDeviceStrategy", "Strategy", "choose_strategy"]

_NAMES = ("auto", "single_device")


def choose_strategy(value: str | Strategy) -> Strategy:
    """Return the strategy that `Trainer(strategy=value)` asks for.

    Raises ConfigError for every name but "auto" and "single_device": this version trains on one device.
    """
    if isinstance(value, Strategy):
        return value
    if value in _NAMES:
        return SingleDeviceStrategy()
    raise ConfigError(
        f"Trainer(strategy={value!r}): this version trains on one device; expected 'auto', 'single_device' "
        f"or a Strategy object{did_you_mean(str(value), _NAMES)}"
    )
