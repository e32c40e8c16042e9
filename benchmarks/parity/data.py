"""What the programs are trained on, and the form of one.

In form "a" the order of the data comes from a sampler that draws nothing, and every loader has a generator of its own.
In form "b" the training data is shuffled by the process's generator, which a validation may move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

BATCH, TRAIN, VAL, EPOCHS = 8, 64, 24, 3


@dataclass(frozen=True)
class Program:
    """One piece of work: the module's class, its data, and what the Trainer is given.

    differs: what differs from Lightning on purpose, and why; "": nothing does.
    """

    module: Callable[[], Any]
    data: Callable[[str], tuple[Any, Any]]  # form -> loaders of training and validation
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: Callable[[], list[Any]] = list
    differs: str = ""


class Scattered(Sampler[int]):
    """A fixed order that is no random one."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from ((7 * index + 3) % self.count for index in range(self.count))


def loaders(make: Callable[[int, int], Dataset[Any]], **options: Any) -> Callable[[str], tuple[Any, Any]]:
    """Loaders of `make(count, seed)` in either form."""

    def of(form: str) -> tuple[Any, Any]:
        train, val = make(TRAIN, 1), make(VAL, 2)
        if form == "b":
            return DataLoader(train, BATCH, shuffle=True, **options), DataLoader(val, BATCH, **options)
        order = {"sampler": Scattered(TRAIN), "generator": torch.Generator().manual_seed(5)}
        return (
            DataLoader(train, BATCH, **order, **options),
            DataLoader(val, BATCH, generator=torch.Generator().manual_seed(6), **options),
        )

    return of


def rows(count: int, seed: int) -> Dataset[Any]:
    """Sixteen numbers and one of three classes each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 16, generator=generator)
    return TensorDataset(x, x[:, :3].argmax(1))


def pictures(count: int, seed: int) -> Dataset[Any]:
    """8 x 8 pictures of three classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 8, 8, generator=generator)
    return TensorDataset(x, x.flatten(1)[:, :3].argmax(1))


def sentences(count: int, seed: int) -> Dataset[Any]:
    """Twelve of twenty words each, and one of three classes."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 20, (count, 12), generator=generator)
    return TensorDataset(words, words[:, 0] % 3)


class Dicts(Dataset[Any]):
    """Rows as dicts."""

    def __init__(self, count: int, seed: int):
        self.rows = rows(count, seed)

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x, y = self.rows[index]
        return {"x": x, "y": y}
