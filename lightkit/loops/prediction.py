"""The pass of a prediction: what the steps return is kept where somebody wants it, and which samples it is of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lightkit.data.noted import NotedSource
from lightkit.data.order import IndexedSource, Source
from lightkit.loops.evaluation import EvaluationLoop

if TYPE_CHECKING:
    from lightkit.run.base import Run


class Interval(Protocol):
    """When predictions are written."""

    @property
    def on_batch(self) -> bool:
        """After each batch."""

    @property
    def on_epoch(self) -> bool:
        """All at the end."""


@runtime_checkable
class WritesPredictions(Protocol):
    """A callback that is given predictions with the indices of their samples, as BasePredictionWriter is."""

    @property
    def interval(self) -> Interval:
        """When it writes."""

    def write_on_batch_end(self, *args: object) -> None:
        """Write those of one batch."""

    def write_on_epoch_end(self, *args: object) -> None:
        """Write all."""


class PredictionLoop(EvaluationLoop):
    """Runs `predict_step` over loaders. returns: the caller wants what it returned."""

    __slots__ = ("epoch_batch_indices", "notes", "notes_epoch", "return_predictions")

    def __init__(self, run: Run, sources: list[Source], limits: list[float], *, returns: bool):
        writers = [c.interval for c in run.callbacks if isinstance(c, WritesPredictions)]
        self.return_predictions = returns
        self.notes_epoch = any(interval.on_epoch for interval in writers)
        self.notes = len(writers) > 0
        super().__init__(run, "predict", self._seen(sources), limits, keeps=returns or self.notes_epoch)
        # by loader: the indices of each batch, where something writes at the end
        self.epoch_batch_indices: list[list[list[int]]] = [[] for _ in sources]

    def read(self, sources: list[Source], limits: list[float]) -> None:
        """As EvaluationLoop.read."""
        super().read(self._seen(sources), limits)
        self.epoch_batch_indices = [[] for _ in sources]

    def _seen(self, sources: list[Source]) -> list[Source]:
        return [_noted(source) for source in sources] if self.notes else sources

    @property
    def predictions(self) -> list[object]:
        """What the steps returned so far, on the CPU: a list, or with several loaders a list for each of them."""
        kept = self.kept or []
        return kept[0] if len(kept) == 1 else [*kept]

    @property
    def current_batch_indices(self) -> list[int]:
        """The samples of the running batch, as indices of the data set; empty where nobody can tell, or asks."""
        source = self.sources[self.results.dataloader_idx or 0]
        return source.current if isinstance(source, NotedSource) else []

    def opened(self, source: Source, loader_idx: int) -> Iterator[object]:
        """As EvaluationLoop.opened."""
        batches = super().opened(source, loader_idx)
        return self._noting(batches, source, loader_idx) if self.notes_epoch else batches

    def _noting(self, batches: Iterator[object], source: Source, loader_idx: int) -> Iterator[object]:
        for batch in batches:
            if isinstance(source, NotedSource):
                self.epoch_batch_indices[loader_idx].append(source.current)
            yield batch


def _noted(source: Source) -> Source:
    if isinstance(source, IndexedSource):
        return NotedSource(source)
    kind = type(source.loader).__name__
    warnings.warn(
        f"{source.name} ({kind}): its batches do not tell which samples they hold, so batch_indices are empty; use a "
        "DataLoader over a data set with __getitem__",
        stacklevel=2,
    )
    return source
