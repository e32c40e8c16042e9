"""Batches of texts of similar length, in an order that seeding and resuming cover, as torchtext batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from lightkit.errors import require

_POOL_BATCHES = 100  # torchtext's BucketIterator sorts as many at a time


class Examples(Dataset[Any]):
    """Serve the examples of a torchtext data set to PyTorch's loader.

    torchtext's own class answers to every attribute, also to those by which the loader finds out what a set can do.
    """

    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = list(examples)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        """Return one example: an object with an attribute for each field."""
        return self.examples[index]


class BucketSampler(Sampler[list[int]]):
    """Draw batches of positions whose texts are of similar length, so that little is padded.

    As torchtext's BucketIterator: a shuffled order is cut into pools of 100 batches, each pool is sorted by length and
    cut into batches, and the batches of all pools are shuffled. All is drawn from torch's default generator when the
    first batch is asked for, as PyTorch's own random sampler does it: the position in an epoch can be resumed.

    Args:
        lengths: length of each text.
        batch_size: texts a batch; one batch of an epoch may be smaller.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        self.lengths = torch.tensor(lengths)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        # a pool holds whole batches, so only the last pool can end in a smaller one
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Draw the batches of an epoch."""
        order = torch.randperm(len(self.lengths))
        batches: list[torch.Tensor] = []
        for pool in order.split(self.batch_size * _POOL_BATCHES):
            by_length = pool[self.lengths[pool].argsort(stable=True)]
            batches += by_length.split(self.batch_size)
        for place in torch.randperm(len(batches)).tolist():
            yield batches[place].tolist()


class CollateFields:
    """Turn examples into a `torchtext.data.Batch`: an attribute for each field, `batch.text`, `batch.label`.

    Args:
        fields: the torchtext field of each attribute.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)

    def __call__(self, examples: list[Any]) -> Any:
        """Pad, number and stack the examples."""
        batch_class = require("torchtext.data", "text", needed_by="the text recipes").Batch
        batch = batch_class(examples, SimpleNamespace(fields=self.fields))
        # what a worker process sends back must be small, and a view on a dict's keys cannot be sent
        batch.dataset, batch.fields = None, list(self.fields)
        return batch
