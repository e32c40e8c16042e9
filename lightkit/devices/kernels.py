"""Which kernels an optimizer steps with: the flags in its parameter groups, chosen, and kept over a restored state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from lightkit.errors import ConfigError

KERNELS = ("fused", "foreach")
FLAGS = (*KERNELS, "capturable")
_CAPTURABLE = (SGD, Adam, AdamW)  # their fused kernels read the learning rate and the count of steps on the device


def choose_kernel(optimizer: Optimizer, kernel: str) -> None:
    """Let a torch optimizer step with its fused or foreach kernels, as if it had been constructed so.

    Raises ConfigError where the optimizer has no such kernels, or parameters that they do not take.
    """
    where, name = f"Trainer(optimizer_kernel={kernel!r})", type(optimizer).__name__
    if kernel not in optimizer.defaults:
        there = [other for other in KERNELS if other in optimizer.defaults]
        instead = f"use {there[0]!r}, or leave it out" if there else "leave it out"
        raise ConfigError(f"{where}: {name} has no {kernel} kernels; {instead}")
    if optimizer.defaults.get("differentiable"):
        raise ConfigError(f"{where}: {name}(differentiable=True) has no {kernel} kernels; leave one of them out")
    for index, group in enumerate(optimizer.param_groups):
        if kernel == "fused" and not all(p.is_floating_point() for p in group["params"]):
            raise ConfigError(
                f"{where}: {name} has parameters that are not of a floating dtype in group {index}, which fused "
                "kernels do not take; use 'foreach', or leave it out"
            )
    for flags in (optimizer.defaults, *optimizer.param_groups):
        flags.update({other: other == kernel or None for other in KERNELS if other in flags})
    # what the constructor sets: a gradient scaler hands its scale to fused kernels, the others would fail on it
    vars(optimizer)["_step_supports_amp_scaling"] = kernel == "fused"


def make_capturable(optimizer: Optimizer) -> None:
    """Let an optimizer step inside a CUDA graph: fused, steps counted on the device; ConfigError where it cannot."""
    if type(optimizer) not in _CAPTURABLE:
        names = ", ".join(kind.__name__ for kind in _CAPTURABLE)
        raise ConfigError(
            f"Trainer(cuda_graph=True): {type(optimizer).__name__} would keep the learning rate of the captured step; "
            f"use one of torch's {names}, or leave cuda_graph out"
        )
    choose_kernel(optimizer, "fused")
    for flags in (optimizer.defaults, *optimizer.param_groups):
        if "capturable" in flags:
            flags["capturable"] = True


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer its saved state; kernels and memory formats stay those of this run, not of the saved one.

    `Optimizer.load_state_dict` takes all options of the saved groups, so that a run on the CPU would go on with the
    flags of one on a GPU.
    """
    own = [{name: group[name] for name in FLAGS if name in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, flags in zip(optimizer.param_groups, own, strict=True):
        was_on_device, is_on_device = _counts_on_device(group), _counts_on_device(flags)
        group.update(flags)
        for parameter in group["params"]:
            values = optimizer.state.get(parameter)
            if not isinstance(values, dict):
                continue
            step = values.get("step")
            if was_on_device != is_on_device and isinstance(step, Tensor):
                values["step"] = step.to(parameter.device if is_on_device else "cpu")
            for name, value in values.items():
                values[name] = _in_format_of(parameter, value)


def _counts_on_device(flags: dict[str, Any]) -> bool:
    return bool(flags.get("fused") or flags.get("capturable"))


def _in_format_of(parameter: Tensor, value: Any) -> Any:
    """The same numbers in the parameter's memory format, which fused kernels take for granted."""
    is_dense = isinstance(value, Tensor) and value.layout is torch.strided and parameter.layout is torch.strided
    if not is_dense or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)
