"""The strategies, and the choice that `Trainer(strategy=...)` asks for."""

from __future__ import annotations

from lightkit.devices.strategies.base import SingleDeviceStrategy, Strategy
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["SingleDeviceStrategy", "Strategy", "choose_strategy"]

_NAMES = ("auto", "single_device")


def choose_strategy(value: str | Strategy) -> Strategy:
    """Return the strategy that `Trainer(strategy=value)` asks for.

    Raises ConfigError for every name but "auto" and "single_device", and for a strategy of several processes.
    """
    if isinstance(value, Strategy):
        if value.world_size != 1:
            raise ConfigError(
                f"Trainer(strategy={type(value).__name__}(...)): its world_size is {value.world_size}, and this "
                "version trains in one process, so nothing would be synchronized; use a strategy of world_size 1"
            )
        return value
    if value in _NAMES:
        return SingleDeviceStrategy()
    raise ConfigError(
        f"Trainer(strategy={value!r}): this version trains on one device; expected 'auto', 'single_device' "
        f"or a Strategy object{did_you_mean(str(value), _NAMES)}"
    )
