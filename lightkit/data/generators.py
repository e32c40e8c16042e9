"""Random generators that a loader, its samplers, its data set and its transforms hold: found, captured, put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from lightkit.errors import CheckpointError

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


def restore(loader: object, saved: States) -> None:
    """Put every generator that is where it was back to its state; one that is new, or gone, is left out."""
    generators = find(loader) if saved else {}
    for place, state in saved.items():
        if (generator := generators.get(place)) is None:
            continue
        try:
            _set(generator, state)
        except Exception as error:  # each library has its own for a state that is none
            what = f"the state of the loader's {place} in the checkpoint is none of a {type(generator).__name__}"
            raise CheckpointError(f"{what}: {error}") from error


def _state(generator: Any) -> object:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate() if isinstance(generator, random.Random) else generator.random_state


def _set(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.random_state = state


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def same(a: object, b: object) -> bool:
    """Whether two captured states are equal."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    return bool(a == b)
