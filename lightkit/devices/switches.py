"""The Trainer's switches of arithmetic, checked and brought into effect; imported where one is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from lightkit.devices.compute import Compute
from lightkit.devices.precision import Precision
from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.settings import Settings


def switched_on(asked: Settings, device: torch.device, precision: Precision) -> Compute:
    """See `lightkit.devices.compute.choose_compute`."""
    for name in ("channels_last", "cuda_graph", "overlap_transfer"):
        if not isinstance(value := getattr(asked, name), bool):
            raise ConfigError(f"Trainer({name}={value!r}): expected True or False")
    options, recorder = None, None
    layout: Callable[[Any], Any] | None = None
    move: Callable[[Any, torch.device], Any] | None = None
    if asked.channels_last:
        from lightkit.devices.memory_format import batch_to_channels_last

        layout = batch_to_channels_last
    if asked.overlap_transfer and device.type == "cuda":  # on the CPU a batch is where it should be
        from lightkit.devices.overlap import OverlappedTransfer

        move = OverlappedTransfer()
    if (kernel := asked.optimizer_kernel) is not None:
        from lightkit.devices.kernels import KERNELS

        if not isinstance(kernel, str) or kernel not in KERNELS:
            raise ConfigError(
                f"Trainer(optimizer_kernel={kernel!r}): expected one of {', '.join(map(repr, KERNELS))}, or None for "
                f"what configure_optimizers says{did_you_mean(str(kernel), KERNELS)}"
            )
    if asked.compile is not None and asked.compile is not False:
        from lightkit.devices.compilation import compile_options

        options = compile_options(asked.compile)
    if asked.cuda_graph:
        from lightkit.devices.capture import CudaRecorder, check_graph

        check_graph(asked, device, precision, options or {})
        recorder = CudaRecorder(device)
    if (tf32 := asked.tf32) is not None:
        if not isinstance(tf32, bool):
            raise ConfigError(f"Trainer(tf32={tf32!r}): expected True, False, or None to leave torch's switches alone")
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
    return Compute(layout, move, recorder, kernel, options)
