"""torch's own switches of the process: deterministic algorithms, cuDNN's search for the fastest one."""

from __future__ import annotations

import os

import torch


def apply_torch_switches(deterministic: bool | str | None, benchmark: bool | None, accelerator: str) -> None:
    """Set torch's own switches; None leaves them as they are."""
    if deterministic is not None:
        torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
        if deterministic and accelerator == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    if benchmark is not None or deterministic:
        torch.backends.cudnn.benchmark = bool(benchmark) and not deterministic
