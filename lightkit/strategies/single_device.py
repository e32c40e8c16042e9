"""One process on one device, under the name that Lightning has for its file."""

from lightkit.devices.strategies.base import SingleDeviceStrategy

__all__ = ["SingleDeviceStrategy"]
