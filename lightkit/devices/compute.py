"""How the arithmetic of a run is done: memory format, optimizer kernels, TF32, torch.compile, CUDA graph, transfer.

Every switch is off by default, and off is an object that does nothing; see docs/guide/compute.md. What a switch needs
is imported when it is on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from lightkit.devices.precision import Precision
from lightkit.devices.strategies import Strategy

if TYPE_CHECKING:
    from lightkit.devices.capture import CudaRecorder
    from lightkit.settings import Settings


@dataclass
class Compute:
    """What a run does to modules, batches and optimizers for speed; without arguments, nothing.

    layout: what brings a batch into the memory format, or None. move: the transfer of a batch to its device, None as
    `move_data_to_device` does it.
    recorder: records the whole training step, or None.
    """

    layout: Callable[[Any], Any] | None = None
    move: Callable[[Any, torch.device], Any] | None = None
    recorder: CudaRecorder | None = None
    kernel: str | None = None
    compile_options: dict[str, Any] | None = None

    def place(self, module: nn.Module, strategy: Strategy, device: torch.device) -> list[nn.Module]:
        """Bring the module to its device, before optimizers are configured, in its memory format; compile it.

        -> the parts that were compiled here, for `release`.
        """
        strategy.setup(module, device)
        if self.layout is not None:
            from lightkit.devices.memory_format import module_to_channels_last

            module_to_channels_last(module)
        if self.compile_options is None:
            return []
        from lightkit.devices.compilation import compile_parts

        return compile_parts(module, self.compile_options)

    def prepare_optimizers(self, optimizers: Sequence[Optimizer]) -> None:
        """Choose their kernels; raises ConfigError where one of them has none such."""
        if self.kernel is None and self.recorder is None:
            return
        from lightkit.devices.kernels import choose_kernel, make_capturable

        for optimizer in optimizers:
            if self.kernel is not None:
                choose_kernel(optimizer, self.kernel)
            if self.recorder is not None:
                make_capturable(optimizer)


def release(compiled: list[nn.Module]) -> None:
    """The run is over: give back as they were the parts that its `Compute.place` compiled; empties the list."""
    while compiled:
        compiled.pop()._compiled_call_impl = None


def choose_compute(asked: Settings, device: torch.device, precision: Precision) -> Compute:
    """What the Trainer's arguments ask for; sets TF32 at once, as a switch of the process.

    Raises ConfigError for a wrong value, and for a CUDA graph with what cannot be in it.
    """
    switches = asked.channels_last, asked.cuda_graph, asked.overlap_transfer
    values = asked.optimizer_kernel, asked.tf32, asked.compile
    if all(switch is False for switch in switches) and all(value is None for value in values):
        return Compute()
    from lightkit.devices.switches import switched_on

    return switched_on(asked, device, precision)


def apply_torch_switches(deterministic: bool | str | None, benchmark: bool | None, accelerator: str) -> None:
    """Set torch's own: deterministic algorithms, cuDNN's search for the fastest one; None leaves them as they are."""
    if deterministic is not None:
        torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
        if deterministic and accelerator == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    if benchmark is not None or deterministic:
        torch.backends.cudnn.benchmark = bool(benchmark) and not deterministic
