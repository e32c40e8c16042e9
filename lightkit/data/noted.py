"""A loader whose batches say which samples they are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from lightkit.data.generators import States
from lightkit.data.order import IndexedSource, Source


class NotedSource(Source):
    """Reads what another source reads, its workers included, and knows the indices of the newest batch."""

    def __init__(self, source: IndexedSource):
        super().__init__(source.loader, source.name)
        self.source = source
        self.drawn = Drawn(source.sampler)
        source.watch(self.drawn)
        self.current: list[Any] = []

    def parts(self) -> list[Source]:
        """As Source.parts."""
        return [self.source]

    def own_generators(self) -> States:
        """As Source.own_generators."""
        return self.source.own_generators()

    def set_epoch(self, epoch: int) -> None:
        """As Source.set_epoch."""
        self.source.set_epoch(epoch)

    def open(self, *, remember: bool = True) -> Iterator[Any]:
        """As Source.open; `current` follows the batches."""
        return self._noting(self.source.open(remember=remember))

    def close(self) -> None:
        """As Source.close."""
        self.source.close()

    def release(self, *, has_failed: bool = False) -> None:
        """As Source.release."""
        self.source.release(has_failed=has_failed)

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
