"""Collections of loaders in any form, dicts, lists, tuples inside of each other: taken apart, put together again."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightkit.devices.odd_batches import is_graph

_PRIMITIVES = (int, float, str, bytes, Tensor)
_DATA = (Tensor, list, tuple, Mapping, str, bytes)
_Take = Callable[[Iterator[object]], object]


@dataclass(frozen=True)
class Nested:
    """The loaders of a collection, in its order; `places` says of each where it stands, as "['a'][1]"."""

    loaders: list[Any]
    places: list[str]
    take: _Take

    def build(self, values: Iterable[object]) -> Any:
        """A collection of the same form, with a value in each loader's place."""
        return self.take(iter(values))


def apart(collection: object, is_collection: Callable[[object], bool]) -> Nested:
    """Take a collection apart; what is none is a loader."""
    loaders: list[object] = []
    places: list[str] = []
    return Nested(loaders, places, _taker(collection, "", is_collection, loaders, places))


def _taker(
    part: Any, place: str, is_collection: Callable[[object], bool], loaders: list[object], places: list[str]
) -> _Take:
    if not is_collection(part):
        loaders.append(part)
        places.append(place)
        return next
    parts: Iterable[tuple[object, object]] = part.items() if isinstance(part, Mapping) else enumerate(part)
    each = [_taker(value, f"{place}[{key!r}]", is_collection, loaders, places) for key, value in parts]
    make = _maker(part)
    return lambda values: make([take(values) for take in each])


def _maker(collection: Any) -> Callable[[list[object]], object]:
    """What makes a collection like this one of other values."""
    kind: Any = type(collection)
    if isinstance(collection, Mapping):
        keys = list(collection)
        if isinstance(collection, defaultdict):
            return lambda values: kind(collection.default_factory, zip(keys, values, strict=True))
        kind = kind if kind is OrderedDict else dict
        return lambda values: kind(zip(keys, values, strict=True))
    if kind is list:
        return lambda values: values
    return (lambda values: kind(*values)) if hasattr(collection, "_fields") else kind


def is_container(part: object) -> bool:
    """Whether this is a collection that CombinedLoader takes apart; a list of numbers or tensors is a loader."""
    if not isinstance(part, (list, tuple, Mapping)):
        return False
    values = list(part.values() if isinstance(part, Mapping) else part)
    return len(values) > 0 and not any(isinstance(value, _PRIMITIVES) for value in values)


def holds_loaders(part: object) -> bool:
    """Whether there are loaders in a collection, and nothing else; a list of batches holds none."""
    if not isinstance(part, (list, tuple, Mapping)):
        return False
    values = list(part.values() if isinstance(part, Mapping) else part)
    return len(values) > 0 and all(_is_loader(value) or holds_loaders(value) for value in values)


def _is_loader(value: object) -> bool:
    # a graph of torch_geometric gives its attributes when it is gone through, and is a batch
    return hasattr(value, "__iter__") and not isinstance(value, _DATA) and not is_graph(value)


def of_loaders(given: object) -> Nested:
    """What a user gives as loaders: a dict of them, a list, one in the other; a list of batches is one loader."""
    is_empty = isinstance(given, (list, tuple)) and len(given) == 0
    is_collection = is_empty or isinstance(given, Mapping)
    return apart(given, lambda part: (part is given and is_collection) or holds_loaders(part))
