"""A loader whose batches say which samples they are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from lightkit.data.order import IndexedSource


class NotedSource(IndexedSource):
    """Reads a DataLoader over a map-style data set in its own order, and knows the indices of the newest batch."""

    def __init__(self, source: IndexedSource):
        super().__init__(source.loader, source.name, is_keyed=source.is_keyed, is_training=source.is_training)
        self.drawn = Drawn(source.sampler)
        self.sampler = self.drawn
        self.rows = self._find_rows()
        self.current: list[Any] = []

    def open(self, *, remember: bool = True) -> Iterator[Any]:
        """As Source.open; `current` follows the batches."""
        return self._noting(super().open(remember=remember))

    def _noting(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.current = self.drawn.next()
            yield batch


class Drawn:
    """What a sampler draws, kept until its batch is there: workers are given indices before they are needed."""

    def __init__(self, sampler: Iterable[Any]):
        self.sampler = sampler
        self.waiting: deque[Any] = deque()

    def __iter__(self) -> Iterator[Any]:
        self.waiting.clear()
        for indices in self.sampler:
            self.waiting.append(indices)
            yield indices

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # as the sampler: TypeError where it has none

    def next(self) -> list[Any]:
        """The indices of the next batch; of a loader that does not batch, the one of its sample."""
        indices = self.waiting.popleft()
        return list(indices) if isinstance(indices, Iterable) and not isinstance(indices, str | bytes) else [indices]
