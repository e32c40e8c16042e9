"""How many samples a batch holds, whatever its shape: what each batch weighs in a mean."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

_NO_CONTAINERS = frozenset((str, int, float, bool, bytes, type(None)))


def batch_size_of(batch: object) -> int:
    """Return the size of dimension 0 of the first tensor in the batch that has one.

    What knows its size says it: a PackedSequence its sequences, a batch of torch_geometric its graphs (`num_graphs`),
    one of its samplers the nodes that were asked for, a batch of torchtext its rows, a TensorDict. A batch whose
    tensors are all 0-dimensional holds one sample.
    Raises ConfigError where the batch holds no tensor.
    """
    return _first(batch, _sizes_in(batch))


@dataclass
class BatchSizes:
    """Tells the size of batches as `batch_size_of`; warns once where the tensors of one disagree."""

    has_warned: bool = False

    def __call__(self, batch: object) -> int:
        """The size of one batch."""
        sizes = _sizes_in(batch)
        size = _first(batch, sizes)
        if self.has_warned:
            return size
        for other in sizes:  # a loop: any() over a generator costs a microsecond of each step
            if other != size and other is not None:
                from lightkit.devices.odd_batches import ambiguity

                self.has_warned = True
                warnings.warn(ambiguity(batch, size), stacklevel=2)
                break
        return size


def _sizes_in(batch: object) -> list[int | None]:
    sizes: list[int | None] = []
    collect(batch, sizes)
    return sizes


def _first(batch: object, sizes: list[int | None]) -> int:
    for size in sizes:
        if size is not None:
            return size
    if sizes:
        return 1
    from lightkit.devices.odd_batches import no_size

    raise no_size(batch)


def collect(batch: object, sizes: list[int | None]) -> None:
    """Append the size that each tensor tells, None where it has no dimension, and those of what knows its own."""
    kind = type(batch)
    if isinstance(batch, Tensor):
        # a nested tensor has a size of dimension 0, and no shape
        sizes.append(batch.size(0) if batch.dim() else None)
    elif kind is list or kind is tuple or kind is dict:
        for part in batch.values() if isinstance(batch, dict) else batch:  # type: ignore[attr-defined]
            if type(part) is Tensor:
                sizes.append(part.size(0) if part.dim() else None)
            elif type(part) not in _NO_CONTAINERS:
                collect(part, sizes)
    elif kind not in _NO_CONTAINERS:
        from lightkit.devices.odd_batches import own_size, parts

        if (known := own_size(batch)) is not None:
            sizes.append(known)
        else:
            for _, part in parts(batch):
                collect(part, sizes)
