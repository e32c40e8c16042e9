"""States of the generators that a loader holds, put back and compared; imported where there are any."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from lightkit.data.generators import States, find
from lightkit.errors import CheckpointError
from lightkit.seeding import Snapshot


def restore(loader: object, saved: States) -> None:
    """Put every generator that is where it was back to its state; one that is new, or gone, is left out."""
    generators = find(loader)
    for place, state in saved.items():
        if (generator := generators.get(place)) is None:
            continue
        try:
            _set(generator, state)
        except Exception as error:  # each library has its own for a state that is none
            what = f"the state of the loader's {place} in the checkpoint is none of a {type(generator).__name__}"
            raise CheckpointError(f"{what}: {error}") from error


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


def same(a: object, b: object) -> bool:
    """Whether two captured states are equal."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    return bool(a == b)


def same_moment(a: Snapshot, b: Snapshot) -> bool:
    """Whether nothing was drawn between the two, and nobody has begun to use CUDA."""
    one, other = a.plain(), b.plain()
    if one.keys() != other.keys():
        return False
    pairs = (zip(_parts(one[kind]), _parts(other[kind]), strict=True) for kind in one)
    return all(same(x, y) for pair in pairs for x, y in pair)


def _parts(state: object) -> list[object]:
    return state if isinstance(state, list) else [state]
