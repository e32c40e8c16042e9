"""What user code imports from Lightning's `fabric.utilities.throughput`."""

from lightkit.throughput import Throughput, get_available_flops, measure_flops

__all__ = ["Throughput", "get_available_flops", "measure_flops"]
