"""Batches of kinds that are seldom seen: subclasses of containers, dataclasses, those of torchtext."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lightkit.devices.transfer import Visit, VisitMovable, map_tensors, same


def map_rare(obj: object, visit: Visit, visit_movable: VisitMovable | None) -> object:
    """Map subclasses of containers, dataclasses, torchtext's batches; copied only if something changed."""
    if isinstance(obj, (tuple, list)):
        items: list[object] = [map_tensors(item, visit, visit_movable) for item in obj]
        if same(items, obj):
            return obj
        make: Callable[..., object] = type(obj)
        return make(*items) if hasattr(obj, "_fields") else make(items)
    parts: dict[Any, object]
    if is_mapping := isinstance(obj, Mapping):
        parts = {key: obj[key] for key in obj}
    else:
        parts = {name: getattr(obj, name) for name in fields_of(obj)}
    found: list[object] = [map_tensors(part, visit, visit_movable) for part in parts.values()]
    if same(found, parts.values()):
        return obj
    changed: Any = {} if is_mapping and not hasattr(obj, "__setitem__") else copy.copy(obj)
    for key, value in zip(parts, found, strict=True):
        if is_mapping:
            changed[key] = value
        else:
            object.__setattr__(changed, key, value)  # a frozen dataclass too: the copy is ours
    return changed


def fields_of(obj: object) -> list[str]:
    """The attributes of a dataclass, or of a batch of torchtext, in which tensors may be; [] for anything else."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return [field.name for field in dataclasses.fields(obj) if hasattr(obj, field.name)]
    if hasattr(obj, "input_fields") and hasattr(obj, "target_fields"):  # a batch of torchtext 0.6
        return [name for name in getattr(obj, "fields", ()) if hasattr(obj, name)]
    return []
