"""Random generators that a loader, its samplers, its data set and its transforms hold: found and captured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

_PARTS = frozenset(("sampler", "batch_sampler", "dataset", "datasets", "transform", "transforms", "collate_fn"))
_MAX_OBJECTS = 200  # a bound on what is looked through; real loaders hold a handful
_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# most attributes are one of these, and are passed over at once: a loader is looked through in every epoch
_NEVER = frozenset((type(None), bool, int, float, str, bytes, torch.Tensor, torch.nn.Parameter, np.ndarray))


States = Mapping[str, object]  # of generators, plain, by their place


def find(loader: object) -> dict[str, object]:
    """The generators by their place, `sampler.generator`: torch's, numpy's, `random`'s, torchtext's; each one once."""
    found: dict[str, object] = {}
    seen: set[int] = set()
    places: list[tuple[str, object]] = [("", loader)]
    for place, holder in places:  # grows while it is walked
        if len(places) > _MAX_OBJECTS:
            break
        values: dict[str, object] | None = getattr(holder, "__dict__", None)
        for name, value in values.items() if isinstance(values, dict) else ():
            if type(value) in _NEVER or id(value) in seen:
                continue
            if isinstance(value, _KINDS) or _is_shuffler(value):
                found[_join(place, name)] = value
            elif name in _PARTS or isinstance(value, (Sampler, Dataset)):
                where, parts = _join(place, name), value if isinstance(value, (list, tuple)) else [value]
                places += [(f"{where}[{i}]" if parts is value else where, p) for i, p in enumerate(parts)]
            else:
                continue
            seen.add(id(value))
    return found


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_shuffler(value: object) -> bool:
    """Whether it is what torchtext's iterators shuffle with: it keeps a state of `random`'s generator."""
    return hasattr(type(value), "use_internal_state") and hasattr(type(value), "random_state")


def capture(loader: object) -> dict[str, object]:
    """The state of each generator, plain, by its place."""
    return states(find(loader))


def states(found: Mapping[str, object]) -> dict[str, object]:
    """The state of each generator that `find` found, plain, by its place."""
    return {place: _state(generator) for place, generator in found.items()}


def _state(generator: Any) -> object:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate() if isinstance(generator, random.Random) else generator.random_state


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
