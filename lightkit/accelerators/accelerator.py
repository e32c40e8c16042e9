"""The base of the kinds of device, under the name that Lightning has for its file."""

from lightkit.devices.accelerators import Accelerator

__all__ = ["Accelerator"]
