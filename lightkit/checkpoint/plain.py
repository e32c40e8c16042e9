"""Make a checkpoint plain: only what `torch.load(weights_only=True)` gives back, on any machine.

That loader runs no code of the file's, so it knows numbers, strings, containers, tensors, torch's dtypes and
devices, and nothing else. What has an obvious plain form gets it; for the rest the error names the place.
"""

from __future__ import annotations

import enum
import os
from collections import OrderedDict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightkit.errors import CheckpointError

# exact types: a subclass (IntEnum, np.float64, a str of the user's) pickles as its class, which is not loaded
_BUILTIN_BASES: tuple[type, ...] = (bool, int, float, complex, str, bytes)
_TORCHS = (torch.dtype, torch.device, torch.Size, torch.layout, Tensor, torch.nn.Parameter)
_AS_THEY_ARE = frozenset((*_BUILTIN_BASES, *_TORCHS, type(None), bytearray))

Place = tuple[object, ...]  # the keys that lead to a value


def to_plain(obj: object, where: str = "checkpoint") -> Any:
    """Return `obj` with everything in it turned into what loads with `weights_only=True`.

    numpy scalars become python numbers, numpy arrays tensors, paths strings, enums their values, dict-likes
    dicts (an OrderedDict stays one), named tuples tuples, frozen sets sets. Tensors are kept, not copied.
    Raises CheckpointError naming the place, `checkpoint['callbacks']['MyCallback']['fn']`, for the rest, and
    for a container that holds itself.
    """
    return _plain(obj, (where,), frozenset())


def _plain(obj: object, path: Place, parents: frozenset[int]) -> object:
    if type(obj) in _AS_THEY_ARE:
        return obj
    if not isinstance(obj, (Mapping, list, tuple, set, frozenset)):
        return _plain_leaf(obj, path, parents)
    if id(obj) in parents:
        raise CheckpointError(f"{_name(path)}: this {_type_name(obj)} holds itself and cannot be saved")
    parents |= {id(obj)}
    if isinstance(obj, Mapping):
        made = OrderedDict if isinstance(obj, OrderedDict) else dict
        return made((_plain_key(key, path), _plain(obj[key], (*path, key), parents)) for key in obj)
    if isinstance(obj, (set, frozenset)):
        return {_plain(item, (*path, item), parents) for item in obj}
    items = [_plain(item, (*path, index), parents) for index, item in enumerate(obj)]
    return tuple(items) if isinstance(obj, tuple) else items


def _plain_key(key: object, path: Place) -> object:
    plain = _plain(key, (*path, key), frozenset())
    if isinstance(plain, Tensor):
        raise CheckpointError(f"{_name(path)}: a tensor as a key cannot be saved; use a number or a string")
    return plain


def _plain_leaf(obj: object, path: Place, parents: frozenset[int]) -> object:
    if isinstance(obj, enum.Enum):
        return _plain(obj.value, path, parents)
    if isinstance(obj, np.generic):
        obj = obj.item()  # datetime64 and structured scalars give objects that are refused below
    elif isinstance(obj, np.ndarray) and obj.dtype.kind in "biufc":
        return torch.from_numpy(np.array(obj, order="C"))  # a copy: memory maps and read-only arrays too
    elif isinstance(obj, Tensor):
        if torch.nn.parameter.is_lazy(obj):
            raise CheckpointError(
                f"{_name(path)}: the shape of this lazy parameter is not known yet; save after the first batch, or run "
                "the module on one"
            )
        return obj.detach().as_subclass(Tensor)
    elif isinstance(obj, os.PathLike):
        return os.fspath(obj)
    elif isinstance(obj, SimpleNamespace) or type(obj).__name__ == "Namespace":
        return _plain(vars(obj), path, parents)
    for base in _BUILTIN_BASES:
        if isinstance(obj, base):
            return base(obj)
    raise CheckpointError(
        f"{_name(path)}: {_described(obj)} cannot be saved: a checkpoint holds only numbers, strings, lists, "
        "dicts and tensors, so that loading it never runs code; save what is needed to build it again"
    )


def _name(path: Place) -> str:
    return str(path[0]) + "".join(f"[{key!r}]" for key in path[1:])


def _type_name(obj: object) -> str:
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _described(obj: object) -> str:
    if isinstance(obj, type):
        return f"the class {obj.__qualname__}"
    if isinstance(obj, np.ndarray):
        return f"a numpy array of dtype {obj.dtype}"
    name = getattr(obj, "__qualname__", None)
    return f"a {_type_name(obj)}" if name is None else f"a {_type_name(obj)} ({name})"
