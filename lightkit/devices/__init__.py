"""Where a run computes and in which number format."""

from lightkit.devices.accelerators import Accelerator, choose
from lightkit.devices.compute import Compute, choose_compute
from lightkit.devices.precision import Precision, choose_precision
from lightkit.devices.strategies import SingleDeviceStrategy, Strategy, choose_strategy
from lightkit.devices.transfer import batch_size_of, map_tensors, move_data_to_device, to_cpu

__all__ = [
    "Accelerator",
    "Compute",
    "Precision",
    "SingleDeviceStrategy",
    "Strategy",
    "batch_size_of",
    "choose",
    "choose_compute",
    "choose_precision",
    "choose_strategy",
    "map_tensors",
    "move_data_to_device",
    "to_cpu",
]
