"""How many samples a batch holds, whatever its shape: what each batch weighs in a mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightkit.devices.transfer import fields_of
from lightkit.errors import ConfigError

_NO_CONTAINERS = frozenset((str, int, float, bool, bytes, type(None)))


def batch_size_of(batch: object) -> int:
    """Return the size of dimension 0 of the first tensor in the batch that has one.

    What knows its size says it: a PackedSequence its sequences, a batch of torch_geometric its graphs (`num_graphs`),
    one of its samplers the nodes that were asked for, a batch of torchtext its rows, a TensorDict. A batch whose
    tensors are all 0-dimensional holds one sample.
    Raises ConfigError where the batch holds no tensor.
    """
    sizes: list[int | None] = []
    _collect(batch, sizes)
    return _first(batch, sizes)


@dataclass
class BatchSizes:
    """Tells the size of batches as `batch_size_of`; warns once where the tensors of one disagree."""

    has_warned: bool = False

    def __call__(self, batch: object) -> int:
        """The size of one batch."""
        sizes: list[int | None] = []
        _collect(batch, sizes)
        size = _first(batch, sizes)
        if not self.has_warned and any(other != size and other is not None for other in sizes):
            self.has_warned = True
            warnings.warn(_ambiguity(batch, size), stacklevel=2)
        return size


def _first(batch: object, sizes: list[int | None]) -> int:
    for size in sizes:
        if size is not None:
            return size
    if sizes:
        return 1
    raise ConfigError(
        f"self.log(...): the batch (a {type(batch).__name__}) holds no tensor that would tell its size; "
        "pass it: self.log(..., batch_size=...)"
    )


def _collect(batch: object, sizes: list[int | None]) -> None:
    """Append the size that each tensor tells, None where it has no dimension, and those of what knows its own."""
    if isinstance(batch, Tensor):
        # a nested tensor has a size of dimension 0, and no shape
        sizes.append(batch.size(0) if batch.dim() else None)
    elif (known := _own_size(batch)) is not None:
        sizes.append(known)
    else:
        for _, part in _parts(batch):
            if type(part) not in _NO_CONTAINERS:
                _collect(part, sizes)


def _parts(batch: object) -> Iterable[tuple[object, object]]:
    if isinstance(batch, Mapping):
        return batch.items()
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes, bytearray)):
        return enumerate(batch)
    return ((name, getattr(batch, name)) for name in fields_of(batch))


def _own_size(batch: object) -> int | None:
    """What a batch says of its size itself; None where it says nothing."""
    kind = type(batch)
    if kind in (list, tuple, dict):
        return None
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])  # always on the CPU
    if isinstance(batch, (tuple, str, bytes)):
        return None
    is_graph = any(base.__module__.startswith("torch_geometric.") for base in kind.__mro__)
    if is_graph and hasattr(batch, "stores"):
        return _size_of_graphs(batch)
    said = None if isinstance(batch, Mapping) and not _is_tensor_dict(batch) else getattr(batch, "batch_size", None)
    if isinstance(said, torch.Size):
        return said[0] if said else None
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _is_tensor_dict(batch: object) -> bool:
    return type(batch).__module__.partition(".")[0] == "tensordict"


def _size_of_graphs(batch: object) -> int:
    for name in ("num_graphs", "num_events"):
        if isinstance(said := getattr(batch, name, None), int):
            return said
    for store in getattr(batch, "stores", ()):
        if isinstance(said := store.get("batch_size"), int):
            return said
    return 1  # a graph as a whole


def _ambiguity(batch: object, size: int) -> str:
    named = [(place, found) for place, found in _named(batch, "") if found is not None]
    taken = next(place for place, found in named if found == size)
    other, told = next((place, found) for place, found in named if found != size)
    return (
        f"the batch (a {type(batch).__name__}) tells no single size: batch{taken} has {size}, which is taken, "
        f"batch{other} has {told}. Means weigh each batch by it; say it with self.log(..., batch_size=...), and with "
        "accumulate_grad_batches by returning {'loss': ..., 'num_items': ...}"
    )


def _named(batch: object, place: str) -> Iterator[tuple[str, int | None]]:
    if isinstance(batch, Tensor) or _own_size(batch) is not None:
        sizes: list[int | None] = []
        _collect(batch, sizes)
        yield place, sizes[0]
        return
    is_by_name = not isinstance(batch, (Mapping, Sequence))
    for key, part in _parts(batch):
        if type(part) not in _NO_CONTAINERS:
            yield from _named(part, f"{place}.{key}" if is_by_name else f"{place}[{key!r}]")
