"""Batches that say their size themselves, that are no lists or dicts, or that say two things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightkit.devices.batch_size import collect
from lightkit.devices.rare_batches import fields_of
from lightkit.errors import ConfigError


def parts(batch: object) -> Iterable[tuple[object, object]]:
    """What a container holds, by key or name."""
    if isinstance(batch, Mapping):
        return batch.items()
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes, bytearray)):
        return enumerate(batch)
    return ((name, getattr(batch, name)) for name in fields_of(batch))


def own_size(batch: object) -> int | None:
    """What a batch says of its size itself; None where it says nothing."""
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])  # always on the CPU
    if isinstance(batch, (tuple, str, bytes)):
        return None
    if is_graph(batch):
        return _size_of_graphs(batch)
    said = None if isinstance(batch, Mapping) and not _is_tensor_dict(batch) else getattr(batch, "batch_size", None)
    if isinstance(said, torch.Size):
        return said[0] if said else None
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def is_graph(batch: object) -> bool:
    """Whether a batch is one of torch_geometric's; nothing of it is imported to know."""
    kinds = type(batch).__mro__
    return any(kind.__module__.startswith("torch_geometric.") for kind in kinds) and hasattr(batch, "stores")


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


def no_size(batch: object) -> ConfigError:
    """What is raised for a batch that holds no tensor."""
    return ConfigError(
        f"self.log(...): the batch (a {type(batch).__name__}) holds no tensor that would tell its size; "
        "pass it: self.log(..., batch_size=...)"
    )


def ambiguity(batch: object, size: int) -> str:
    """What is said of a batch whose tensors disagree, of which one told this size."""
    named = [(place, found) for place, found in _named(batch, "") if found is not None]
    taken = next(place for place, found in named if found == size)
    other, told = next((place, found) for place, found in named if found != size)
    return (
        f"the batch (a {type(batch).__name__}) tells no single size: batch{taken} has {size}, which is taken, "
        f"batch{other} has {told}. Means weigh each batch by it; say it with self.log(..., batch_size=...), and with "
        "accumulate_grad_batches by returning {'loss': ..., 'num_items': ...}"
    )


def _named(batch: object, place: str) -> Iterator[tuple[str, int | None]]:
    if isinstance(batch, Tensor) or own_size(batch) is not None:
        sizes: list[int | None] = []
        collect(batch, sizes)
        yield place, sizes[0]
        return
    is_by_name = not isinstance(batch, (Mapping, Sequence))
    for key, part in parts(batch):
        if not isinstance(part, (str, bytes, bytearray)):
            yield from _named(part, f"{place}.{key}" if is_by_name else f"{place}[{key!r}]")
