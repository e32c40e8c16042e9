"""Memory of devices: what filled it, and giving it back."""

from __future__ import annotations

import gc
from typing import Any

import torch

from lightkit.devices.transfer import map_tensors


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """The same structure with its tensors cut from their graphs, and brought to the CPU where that is asked for."""
    return map_tensors(in_dict, lambda tensor: tensor.detach().cpu() if to_cpu else tensor.detach())


def is_oom_error(exception: BaseException) -> bool:
    """Whether memory of a device or of the host was not enough."""
    return is_cuda_out_of_memory(exception) or is_cudnn_snafu(exception) or is_out_of_cpu_memory(exception)


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether the memory of a GPU was not enough."""
    is_torchs = isinstance(exception, torch.cuda.OutOfMemoryError)
    return is_torchs or (isinstance(exception, RuntimeError) and "out of memory" in str(exception).lower() and (
        "CUDA" in str(exception) or "MPS" in str(exception)
    ))  # fmt: skip


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether cuDNN gave up as it does where memory was not enough."""
    return isinstance(exception, RuntimeError) and "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED." in str(exception)


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether the memory of the host was not enough."""
    is_torchs = isinstance(exception, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(exception)
    return is_torchs or isinstance(exception, MemoryError)


def garbage_collection_cuda() -> None:
    """Free what nobody refers to, and give cached memory of the GPU back."""
    gc.collect()
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:  # the memory that was not enough may be said here once more
        if not is_oom_error(error):
            raise
