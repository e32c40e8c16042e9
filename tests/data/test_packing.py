"""Batches that leave worker processes arrive as PyTorch's own loader gives them, with fewer files, or as one error."""

from __future__ import annotations

import resource
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import lightkit as lk
from lightkit.data import packing
from lightkit.data.order import make_source

Make = Callable[[int], Any]
Pair = namedtuple("Pair", "x y")


@dataclass
class Sample:
    """A batch of a user's own class."""

    x: Tensor
    name: str


class OwnTensor(Tensor):
    """A subclass, as torchvision's pictures are."""


class Made(Dataset[Any]):
    """Eight items, made in the process that reads them."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Stream(IterableDataset[Any]):
    """The same in a row."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        yield from map(self.make, range(8))


def _first(items: list[Any]) -> Any:
    return items[0]


KINDS: dict[str, Make] = {
    "pair": lambda i: (torch.full((3, 5), float(i)), i),
    "dict": lambda i: {"x": torch.arange(i + 1), "nested": [torch.zeros(2), {"y": torch.ones(1)}]},
    "namedtuple": lambda i: Pair(torch.full((2,), i), torch.zeros(())),
    "own class": lambda i: Sample(torch.full((4,), float(i)), f"item {i}"),
    "subclass": lambda i: torch.full((3,), float(i)).as_subclass(OwnTensor),
    "no element": lambda i: torch.zeros(0, 3),
    "one element": lambda i: torch.tensor(i),
    "bool": lambda i: torch.tensor([True, False]),
    "bfloat16": lambda i: torch.full((3,), i / 3, dtype=torch.bfloat16),
    "float8": lambda i: torch.full((3,), i / 3).to(torch.float8_e4m3fn),
    "complex": lambda i: torch.full((3,), complex(i, 1)),
    "conjugated": lambda i: torch.full((3,), complex(i, 1)).conj(),
    "transposed": lambda i: torch.arange(12.0).reshape(3, 4).T,
    "part of another": lambda i: torch.arange(100.0)[i : i + 3],
    "channels last": lambda i: torch.rand(2, 3, 4, 4).fill_(i).to(memory_format=torch.channels_last),
    "asks for gradients": lambda i: torch.full((3,), float(i), requires_grad=True),
    "sparse": lambda i: torch.eye(3).mul(i + 1).to_sparse(),
    "numpy": lambda i: (np.full((3,), i), np.float32(i)),
    "text and None": lambda i: (f"item {i}", None, b"x", i / 3),
    "large": lambda i: (torch.full((400, 400), float(i)), torch.full((2,), i)),
}


def same(a: Any, b: Any) -> bool:
    """Of the same types all the way down, with the same numbers, strides and properties."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        if a.layout is not torch.strided:
            return torch.equal(a.to_dense(), b.to_dense()) and a.layout == b.layout
        is_alike = (a.dtype, a.shape, a.stride(), a.requires_grad, a.is_conj()) == (
            b.dtype, b.shape, b.stride(), b.requires_grad, b.is_conj(),
        )  # fmt: skip
        return is_alike and torch.equal(a.detach().to(torch.complex128), b.detach().to(torch.complex128))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Sample):
        return same(vars(a), vars(b))
    return bool(a == b)


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_what_the_loader_itself_gives(kind: str) -> None:
    make = KINDS[kind]
    for data in (Made(make), Stream(make)):
        source = make_source(_loader(data), is_keyed=False)
        found, wanted = list(source.open()), list(_loader(data))
        source.release()
        assert len(found) == len(wanted) == 8
        assert all(map(same, found, wanted))


def _loader(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=1, num_workers=1, collate_fn=_first)


def test_what_default_collate_makes_is_the_same_too() -> None:
    data = Made(lambda i: (torch.full((3,), float(i)), i, {"y": torch.tensor(i)}))
    source = make_source(DataLoader(data, batch_size=3, num_workers=2), is_keyed=False)
    assert all(map(same, source.open(), DataLoader(data, batch_size=3, num_workers=2)))
    source.release()


def test_tensors_of_one_memory_are_of_one_memory_again_and_may_be_written_to() -> None:
    def make(index: int) -> Any:
        whole = torch.zeros(6)
        return whole, whole[2:4], whole.view(2, 3)

    source = make_source(_loader(Made(make)), is_keyed=False)
    whole, part, view = next(source.open())
    part += 1
    assert whole.tolist() == [0, 0, 1, 1, 0, 0] and view.tolist() == [[0, 0, 1], [1, 0, 0]]
    source.release()


def test_memory_is_aligned_as_every_tensors_is() -> None:
    source = make_source(_loader(Made(lambda i: [torch.zeros(n) for n in range(1, 30)])), is_keyed=False)
    assert all(tensor.data_ptr() % 64 == 0 for batch in source.open() for tensor in batch)
    source.release()


def test_large_tensors_are_shared_and_small_ones_are_not() -> None:
    source = make_source(_loader(Made(KINDS["large"])), is_keyed=False)
    large, small = next(source.open())
    assert large.nbytes > packing.MOST_BYTES > small.nbytes
    assert large.is_shared() and not small.is_shared()
    source.release()


@contextmanager
def few_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Module(lk.LightModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(loader: DataLoader[Any]) -> Module:
    module = Module()
    trainer = lk.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module


def test_many_small_tensors_need_no_open_files() -> None:
    data = Made(lambda i: [torch.zeros(2) for _ in range(1000)])
    with few_files(256):
        assert fit(_loader(data)).steps == 8


@pytest.mark.parametrize("data", [Made, Stream])
def test_a_batch_that_cannot_leave_its_worker_is_an_error_that_says_where(data: Callable[[Make], Any]) -> None:
    loader = _loader(data(lambda i: (lambda: i) if i == 5 else torch.zeros(1)))
    with pytest.raises(AttributeError, match="Can't (pickle|get) local object") as caught:
        fit(loader)
    note = "\n".join(caught.value.__notes__)
    wanted = "train_dataloaders: Made, batch " if data is Made else "train_dataloaders: collate_fn"
    assert f"raised in worker process 0 of {wanted}" in note


def test_neither_does_a_tensor_that_was_computed_with_gradients() -> None:
    loader = _loader(Made(lambda i: torch.ones(1, requires_grad=True) * 2))
    with pytest.raises(RuntimeError, match="non-leaf tensor which requires_grad") as caught:
        fit(loader)
    assert "raised in worker process 0 of train_dataloaders: Made, batch 0" in "\n".join(caught.value.__notes__)
