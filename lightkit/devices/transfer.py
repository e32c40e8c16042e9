"""Walk through batches of any shape: move them to a device, tell their size, keep them on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Visit = Callable[[Tensor], Tensor]
VisitMovable = Callable[[Any], object]


def move_data_to_device(batch: T, device: torch.device | str, *, non_blocking: bool | None = None) -> T:
    """Return the batch with every tensor in it on `device`; what is there already is returned itself.

    Looks into lists, tuples, named tuples, dicts, dataclasses and torchtext batches. An object with a method
    `.to(device)` of its own (PackedSequence, BatchEncoding) is asked to move itself; all else stays.
    `non_blocking=None` copies without waiting to any device but the CPU and MPS, where it is not safe.
    """
    target = torch.device(device)
    if _is_flat_and_there(batch, target):
        return batch
    if non_blocking is None:
        non_blocking = target.type not in ("cpu", "mps")

    def move(tensor: Tensor) -> Tensor:
        return tensor if tensor.device == target else tensor.to(target, non_blocking=non_blocking)

    def move_itself(obj: Any) -> object:
        moved: object = obj.to(target)
        return obj if moved is None else moved  # a method that moves in place and returns nothing

    return map_tensors(batch, move, move_itself)


def _is_flat_and_there(batch: object, device: torch.device) -> bool:
    """Recognize the usual batch on the CPU, (inputs, targets), in a third of the time of the whole walk."""
    if not (type(batch) is list or type(batch) is tuple):
        return False
    for item in batch:
        if type(item) is not Tensor or item.device != device:
            return False
    return True


def to_cpu(obj: T) -> T:
    """Return `obj` with a copy on the CPU, without gradients, of every tensor: safe to keep for an epoch."""
    return map_tensors(obj, lambda tensor: tensor.detach().to("cpu", copy=True))


def map_tensors(obj: object, visit: Visit, visit_movable: VisitMovable | None = None) -> Any:
    """Return `obj` with `visit` applied to every tensor in it.

    A container in which nothing changed is returned itself, one with changes is a new one.
    `visit_movable` is applied to objects that have a method `to`, instead of looking into them.
    """
    if isinstance(obj, Tensor):
        return visit(obj)
    if type(obj) is tuple or type(obj) is list:
        items: list[object] = [map_tensors(item, visit, visit_movable) for item in obj]
        return obj if same(items, obj) else type(obj)(items)
    if type(obj) is dict:
        values: list[object] = [map_tensors(value, visit, visit_movable) for value in obj.values()]
        return obj if same(values, obj.values()) else dict(zip(obj, values, strict=True))
    if type(obj) in (str, int, float, bool, bytes, type(None)):
        return obj
    if visit_movable is not None and callable(getattr(obj, "to", None)):
        return visit_movable(obj)
    from lightkit.devices.rare_batches import map_rare

    return map_rare(obj, visit, visit_movable)


def same(new: Iterable[object], old: Iterable[object]) -> bool:
    """Whether nothing changed."""
    for one, other in zip(new, old, strict=True):  # a loop: all() over a generator doubles the cost of a batch
        if one is not other:
            return False
    return True
