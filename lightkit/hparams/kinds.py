"""Values as a checkpoint holds them: a plain form, which `torch.load(weights_only=True)` gives back, and what it lost.

A kind is text, such as "pathlib.Path" or "my_project.model.Activation:GELU"; nothing is imported because of it. The
note of a value is None where the plain form is the value; the kind; or for what has parts `[kind, notes of parts]`, by
key or index, and third, where needed, notes of keys. `lightkit.hparams.building` makes the value again.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Note = str | list[Any] | None

MOST_ELEMENTS = 1000  # of a tensor or an array: weights of classes are an argument, those of a layer are state
_BUILTIN_BASES: tuple[type, ...] = (bool, int, float, complex, str, bytes)
_LEAVES = (*_BUILTIN_BASES, type(None), torch.dtype, torch.device, torch.Size, torch.layout)
_CONTAINERS = (dict, OrderedDict, list, tuple, set)
_PLAIN_LEAVES = frozenset(_LEAVES)
_AS_THEY_ARE = frozenset((*_LEAVES, *_CONTAINERS))
FACTORIES = {kind.__name__: kind for kind in (bool, dict, float, int, list, set, str)}  # of a defaultdict


def name_of(cls: type) -> str:
    """`package.module.Class`."""
    return f"{cls.__module__}.{cls.__qualname__}"


def fields_of(obj: object) -> dict[str, object]:
    """The fields that a dataclass is built from; `init=False` ones are made by it."""
    assert dataclasses.is_dataclass(obj)
    return {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj) if field.init}


def encode(value: object) -> tuple[Any, Note]:
    """The plain form of a value, copied, and the note of what it lost.

    Raises TypeError for what has none: modules, functions, objects of classes that hold more than values.
    """
    kind, content = take_apart(value)
    if isinstance(content, (dict, list, tuple, set)):
        return _encode_parts(kind, content)
    return content, kind or None


def _encode_parts(kind: str, content: Any) -> tuple[Any, Note]:
    types = {*map(type, content), *(map(type, content.values()) if isinstance(content, dict) else ())}
    if types <= _PLAIN_LEAVES:  # a vocabulary of 100,000 words is copied at once
        return type(content)(content), kind or None
    keys: dict[object, Note] = {}
    if isinstance(content, dict):
        found: list[Any] = []
        for key in content:
            plain_key, note = encode(key)
            if isinstance(plain_key, Tensor):
                raise TypeError("a tensor as a key")
            keys[plain_key] = note
            found.append((plain_key, encode(content[key])))
    else:
        found = [(index, encode(item)) for index, item in enumerate(content)]
    if isinstance(content, set):
        found = [(item[0], item) for _, item in found]
    notes = {key: note for key, (_, note) in found if note is not None}
    plain: Any
    if isinstance(content, dict):
        plain = type(content)((key, item) for key, (item, _) in found)
    else:
        plain = type(content)(item for _, (item, _) in found)
    if len(plain) != len(content):
        raise TypeError("two of its items have the same plain form")
    named = {key: note for key, note in keys.items() if note is not None}
    if named:
        return plain, [kind, notes, named]
    return plain, [kind, notes] if notes else kind or None


def parts_of(note: Note) -> tuple[str, Mapping[Any, Note], Mapping[Any, Note]]:
    """The kind in a note, the notes of parts and those of keys. Raises TypeError for what is none."""
    if note is None or isinstance(note, str):
        return note or "", {}, {}
    is_right = isinstance(note, list) and 2 <= len(note) <= 3 and isinstance(note[0], str)
    if not is_right or not all(isinstance(part, dict) for part in note[1:]):
        raise TypeError("no note")
    return note[0], note[1], note[2] if len(note) == 3 else {}


def take_apart(value: object) -> tuple[str, Any]:
    """The kind of a value, "" for one that is plain, and what it holds: a plain value, or a container of any values."""
    if type(value) in _AS_THEY_ARE:
        return "", value
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, nn.Module, enum.Enum)):
        return name_of(type(value)), _fields_that_build(value)
    if type(value).__module__.startswith("omegaconf."):
        return _omegaconf(value)
    for base, apart in _FORMS:
        if isinstance(value, base):
            return apart(value)
    raise TypeError(type(value).__name__)


def _fields_that_build(value: object) -> dict[str, object]:
    fields = fields_of(value)
    parameters = inspect.signature(type(value)).parameters.values()
    taken = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if taken != fields.keys():
        raise TypeError("it is built from more, or from other things, than its fields: an InitVar, its own __init__")
    return fields


def _member(value: enum.Enum) -> tuple[str, Any]:
    plain, _ = encode(value.value)
    return f"{name_of(type(value))}:{value.name}" if value.name else name_of(type(value)), plain


def _numpy_scalar(value: np.generic[Any]) -> tuple[str, Any]:
    item = value.item()
    if type(item) not in _BUILTIN_BASES:
        raise TypeError(type(value).__name__)  # dates, and long doubles, of which no plain number is the same
    return f"numpy.{value.dtype.name if value.dtype.kind in 'biufc' else type(value).__name__}", item


def _array(value: np.ndarray[Any, Any]) -> tuple[str, Any]:
    is_of_numbers = type(value) is np.ndarray and value.dtype.kind in "biufc" and value.dtype.isnative
    if not is_of_numbers or value.size > MOST_ELEMENTS:
        raise TypeError("an array that is large, or not of numbers")
    return "numpy.ndarray", torch.from_numpy(np.array(value, order="C"))


def _tensor(value: Tensor) -> tuple[str, Any]:
    if type(value) is not Tensor or value.requires_grad or value.is_meta or value.layout is not torch.strided:
        raise TypeError("a tensor that is more than numbers")
    if value.numel() > MOST_ELEMENTS:
        raise TypeError("a large tensor")
    return "", value.detach().clone()


def _path(value: os.PathLike[Any]) -> tuple[str, Any]:
    # whichever system it is of: a WindowsPath cannot be made elsewhere
    kind = "pathlib.Path" if isinstance(value, Path) else name_of(type(value))
    return kind, os.fspath(value)


def _with_attributes(value: Any) -> tuple[str, Any]:
    return name_of(type(value)), dict(vars(value))


def _defaultdict(value: defaultdict[Any, Any]) -> tuple[str, Any]:
    made = value.default_factory
    if made is None:
        return name_of(defaultdict), dict(value)
    name = getattr(made, "__name__", "")
    if FACTORIES.get(name) is not made:
        raise TypeError("its default_factory is code")
    return f"{name_of(defaultdict)}:{name}", dict(value)


def _omegaconf(value: Any) -> tuple[str, Any]:
    from omegaconf import OmegaConf  # the value is of it: it is imported already
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.to_container(value, resolve=True)
    except OmegaConfBaseException as error:
        raise TypeError(str(error)) from error
    flags = {"struct": OmegaConf.is_struct(value), "readonly": OmegaConf.is_readonly(value)}
    set_ones = ",".join(name for name, is_set in flags.items() if is_set)
    return f"{name_of(type(value))}:{set_ones}".rstrip(":"), content


def _mapping(value: Mapping[Any, Any]) -> tuple[str, Any]:
    return name_of(type(value)), {key: value[key] for key in value}


def _container(base: type) -> Callable[[Any], tuple[str, Any]]:
    return lambda value: (name_of(type(value)), base(value))


# in this order: an IntEnum is an int, a numpy.float64 a float
_FORMS: tuple[tuple[Any, Callable[[Any], tuple[str, Any]]], ...] = (
    (enum.Enum, _member), (np.generic, _numpy_scalar), (np.ndarray, _array), (Tensor, _tensor), (os.PathLike, _path),
    *((base, _container(base)) for base in _BUILTIN_BASES),
    ((Namespace, SimpleNamespace), _with_attributes), (defaultdict, _defaultdict), (Mapping, _mapping),
    (list, _container(list)), (tuple, _container(tuple)), ((set, frozenset), _container(set)),
)  # fmt: skip


def same(one: object, other: object) -> bool:
    """Whether two values are of one kind and hold the same; what has no plain form is compared by `==`."""
    try:
        (a, a_note), (b, b_note) = encode(one), encode(other)
    except (TypeError, RecursionError):
        return type(one) is type(other) and bool(one == other)
    return a_note == b_note and same_plain(a, b)


def differ(one: object, other: object) -> bool:
    """Whether two values are unequal, arrays and NaN too; 1 and 1.0 are not."""
    try:
        return bool(one != other) and not same(one, other)
    except (RuntimeError, ValueError):  # of tensors and arrays, element by element
        return not same(one, other)


def same_plain(one: Any, other: Any) -> bool:
    """Whether two plain forms are the same: types too, tensors by their elements, NaN as NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_plain(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_plain, one, other))
    return bool(one == other or (one != one and other != other))
