"""Norms of gradients, to log them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightkit.errors import ConfigError


def grad_norm(module: nn.Module, norm_type: float | int | str, group_separator: str = "/") -> dict[str, Tensor]:
    """-> the norm of each parameter's gradient and, as `grad_<p>_norm_total`, of all of them; 0-dim tensors.

    Call it in `on_before_optimizer_step`: `self.log_dict(grad_norm(self, norm_type=2))`. norm_type: above 0, or "inf".
    """
    p = float(norm_type)
    if p <= 0:
        raise ConfigError(f"grad_norm(norm_type={norm_type!r}): expected a number above 0 or 'inf'")
    norms = {
        f"grad_{p}_norm{group_separator}{name}": torch.linalg.vector_norm(parameter.grad.detach(), p)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        norms[f"grad_{p}_norm_total"] = torch.linalg.vector_norm(torch.stack(list(norms.values())), p)
    return norms
