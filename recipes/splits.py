"""Which examples train, validate and test: splits that depend on a seed alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightkit.errors import ConfigError


def check_fraction(owner: str, name: str, value: float) -> None:
    """Raise ConfigError unless `value` is a share between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{owner}({name}={value}): expected a share between 0 and 1, such as 0.1")


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into a rest and a part in which every class has its share, up to one example.

    Args:
        labels: int64 (examples,).
        fraction: share of the part, between 0 and 1; it gets that many positions, rounded up.
        seed: the only thing, beside `labels`, that the split depends on.

    Returns:
        The sorted positions of the rest and of the part, int64.
    """
    count = len(labels)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    part_size = math.ceil(fraction * count - 1e-9)  # 0.07 * 100 is a little more than 7
    # evenly spaced places in an order by class take from each class its share
    places = ((torch.arange(part_size) + 0.5) * count / max(part_size, 1)).long()
    in_part = torch.zeros(count, dtype=torch.bool)
    in_part[by_class[places]] = True
    return (~in_part).nonzero().flatten(), in_part.nonzero().flatten()


def part_of(part: str, count: int, fractions: dict[str, float], seed: int) -> list[int]:
    """Return the sorted positions, of `count`, that belong to "train", "val" or "test".

    Args:
        part: which part.
        count: how many there are.
        fractions: share of "val" and of "test", rounded up; the rest trains.
        seed: the only other thing that the split depends on.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    tests, validates = (math.ceil(fractions[name] * count - 1e-9) for name in ("test", "val"))
    begin, end = {"test": (0, tests), "val": (tests, tests + validates), "train": (tests + validates, count)}[part]
    return sorted(order[begin:end])
