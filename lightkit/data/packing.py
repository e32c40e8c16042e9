"""A batch on its way out of a worker process: small tensors are in the message itself.

PyTorch puts each tensor into a file of shared memory, whose descriptor the reader asks the worker for: about half a
millisecond a tensor, whatever its size. Copying is faster up to about 512 KiB, and takes no descriptors.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import UntypedStorage
from torch.multiprocessing.reductions import reduce_storage
from torch.utils.data import get_worker_info

MOST_BYTES = 1 << 19  # of a storage that is copied; at 1 MiB sharing is faster


class Packed:
    """A batch that the process it is sent to finds as it was. Packed at once: what cannot be is an error here."""

    def __init__(self, batch: object):
        buffer = io.BytesIO()
        _Pickler(buffer).dump(batch)
        self.content = buffer.getvalue()

    def __reduce__(self) -> tuple[Callable[..., object], tuple[bytes]]:
        return pickle.loads, (self.content,)


def packed(batch: object) -> object:
    """The batch ready to leave a worker process; as it is where it stays in this one."""
    return batch if get_worker_info() is None else Packed(batch)


class _Pickler(ForkingPickler):
    """As the one of a queue; tensors of one storage are of one storage again, since it is written once."""

    def __init__(self, buffer: io.BytesIO):
        super().__init__(buffer)
        self.dispatch_table[UntypedStorage] = _reduce  # of this pickler alone


def _reduce(storage: UntypedStorage) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    if storage.device.type != "cpu" or storage.nbytes() > MOST_BYTES:
        found: tuple[Callable[..., Any], tuple[Any, ...]] = reduce_storage(storage)
        return found
    return _storage_of, (torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes(),)


def _storage_of(content: bytes) -> UntypedStorage:
    storage = UntypedStorage(len(content))  # aligned as every tensor is: kernels may add up in another order else
    if content:
        whole = torch.empty(0, dtype=torch.uint8).set_(storage)
        whole.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return storage
