"""Whether what was trained holds numbers: looked at when the fit ends and when a checkpoint is saved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightkit.errors import NonFiniteError

if TYPE_CHECKING:
    from lightkit.loops.position import Counters
    from lightkit.run.fit import FitRun

_DTYPES = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128))


def loss_error(value: float, p: Counters, index: int, *, is_first: bool) -> NonFiniteError:
    """What is raised for a loss; is_first: those of all batches before were looked at."""
    return _error(f"the loss is {value} in epoch {p.epoch}, batch {index} (step {p.global_step})", p, index, is_first)


def is_all_finite(run: FitRun, loss: Tensor | None) -> bool:
    """Whether the loss, every parameter that learns and the running statistics are; one device read.

    The loss tells it too late where the last update broke the weights, and never where it does not depend on them.
    """
    tensors = [tensor for _, tensor in _watched(run)]
    if loss is not None and _has_numbers(loss):
        tensors.append(loss.detach())
    return not tensors or bool(_are_finite(tensors).all())


def weight_error(run: FitRun, p: Counters) -> NonFiniteError:
    """What is raised for the first weight that is not."""
    place = next(name for name, tensor in _watched(run) if not bool(_are_finite([tensor]).all()))
    batches, epoch = p.batches_done, p.epoch
    if batches == 0 and epoch > 0 and math.isfinite(run.data.num_batches):  # it has gone on to the next epoch
        batches, epoch = int(run.data.num_batches), epoch - 1
    index = max(batches - 1, 0)
    problem = f"{place} is NaN or infinite after epoch {epoch}, batch {index} (step {p.global_step})"
    return _error(problem, replace(p, epoch=epoch), index, False)


def _error(problem: str, p: Counters, index: int, is_first: bool) -> NonFiniteError:
    return NonFiniteError(
        f"{problem}; training stopped, checkpoints saved before are untouched. Try a lower learning rate, "
        "gradient_clip_val=1.0 or detect_anomaly=True; Trainer(nan_check='off') goes on regardless",
        epoch=p.epoch, batch_idx=index, global_step=p.global_step, is_first=is_first,
    )  # fmt: skip


def _watched(run: FitRun) -> Iterator[tuple[str, Tensor]]:
    """What the optimizers move, and what normalization keeps: a mask that is -inf on purpose is neither."""
    groups = [group for optimizer in run.optimization.optimizers for group in optimizer.param_groups]
    moved = {id(parameter) for group in groups for parameter in group["params"]}
    for name, parameter in run.module.named_parameters():
        if parameter.requires_grad and id(parameter) in moved and _has_numbers(parameter):
            yield name, parameter.detach()
    for name, buffer in run.module.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var") and _has_numbers(buffer):
            yield name, buffer


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.dtype in _DTYPES and tensor.layout == torch.strided and tensor.numel() > 0 and not tensor.is_meta


def _are_finite(tensors: list[Tensor]) -> Tensor:
    """One truth value a tensor, on the device of the first: the largest number in it is finite, which NaN is not."""
    device = tensors[0].device
    real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in real:
        by_kind.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    norms = [norm for same in by_kind.values() for norm in torch._foreach_norm(same, math.inf)]
    return torch.stack([norm.isfinite().to(device) for norm in norms])
