"""A loader with worker processes, or pinned memory: the indices of a batch are drawn here and sent there by keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from lightkit.data.ahead import Ahead, is_torchs, settings_of
from lightkit.data.order import IndexedSource, Moment
from lightkit.data.worker_side import loader_of_keys
from lightkit.data.workers import remember
from lightkit.seeding import mix


class _Keys:
    """The sampler of the loader with workers: keys of the epoch that was set last."""

    def __init__(self) -> None:
        self.keys: Iterator[tuple[int | None, int, Any]] = iter(())

    def __iter__(self) -> Iterator[tuple[int | None, int, Any]]:
        return self.keys  # the same iterator however often it is asked: PyTorch asks twice at its first epoch

    def __len__(self) -> int:
        return 0


class WorkerSource(IndexedSource):
    """As IndexedSource; a loader of keys, made when the first epoch begins, does the fetching."""

    def __init__(
        self, loader: DataLoader[Any], name: str = "the loader", *, is_keyed: bool = False,
        is_sequential: bool = False, is_training: bool = True,
    ):  # fmt: skip
        super().__init__(loader, name, is_keyed=is_keyed, is_sequential=is_sequential, is_training=is_training)
        self.runs_ahead = loader.num_workers > 0
        self.keys = _Keys()
        self.inner: DataLoader[Any] | None = None  # made when the first epoch begins
        self.ahead: Ahead | None = None

    def _find_rows(self) -> Callable[[], Iterator[Any]] | None:
        self.fetch.look()
        return None  # rows are read in this process alone

    def _draw_seed(self) -> int:
        """The base seed of the epoch, drawn where and when PyTorch draws it."""
        if self.loader.persistent_workers and self.is_training and not self.is_keyed:
            # PyTorch draws once for workers that stay; each epoch's seed must differ all the same. An evaluation puts
            # the generators back: there it may draw every time, and depends on none that went before.
            if self.first_seed is None:
                self.first_seed = self._draw()
            return mix(self.first_seed, self.epochs_opened)
        return self._draw()

    def open_ahead(self, epoch: int) -> None:
        """Give workers that stay the first batches of the next epoch to fetch.

        The generators are put back as if nothing had been drawn: what is saved meanwhile knows nothing of it, and
        `open` takes these batches only where nobody has drawn since. A sampler of the user's is not asked early.
        """
        if not (self.loader.persistent_workers and self.is_training and is_torchs(self.sampler)):
            return
        before, counts = self._capture(), (self.first_seed, self.epochs_opened)
        self.set_epoch(epoch)
        settings, batches = settings_of(self.sampler), self._iterate(0)
        self.ahead = Ahead(batches, before, self._capture(), (self.first_seed, self.epochs_opened), settings)
        self._put_back(before, counts)

    def open(self, *, remember: bool = True) -> Iterator[Any]:
        """As Source.open; goes on with what was opened ahead, where that is what opening now would give."""
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return super().open(remember=remember)
        self.before = now = self._capture()
        if not ahead.is_true(self.sampler, now):
            return self._iterate(0)
        self._put_back(ahead.after, ahead.counts)
        return ahead.batches

    def _put_back(self, state: Moment, counts: tuple[int | None, int]) -> None:
        state["rng"].restore()
        self.restore_own_generators(state["generators"])
        self.first_seed, self.epochs_opened = counts

    def _draw_order(self) -> tuple[Iterator[Any], int]:
        order = iter(self.sampler)
        seed = self._draw_seed()
        self.epochs_opened += 1
        if self.loader.num_workers > 0 and not (self.loader.persistent_workers and self.epochs_opened > 1):
            order = iter(self.sampler)  # PyTorch asks twice here; a sampler that draws in __iter__ would notice
        return order, seed

    def _fetched(self, order: Iterator[Any], seed: int, skip: int) -> Iterator[Any]:
        if self.inner is None:  # not `or`: its length is 0, so it is false
            self.inner = loader_of_keys(self.fetch, self.name, self.keys, self.loader)
        inner = self.inner
        assert inner.generator is not None
        inner.generator.manual_seed(seed)
        # without workers (pinned memory only) the fetch uses the process's own generators, as PyTorch's does
        key = seed if self.loader.num_workers > 0 else None
        self.keys.keys = ((key, index, indices) for index, indices in enumerate(order, skip))
        batches = iter(inner)
        remember(batches)
        return self._follow(batches)

    def release(self, *, has_failed: bool = False) -> None:
        """As Source.release; workers that stay are this source's own."""
        super().release(has_failed=has_failed)
        self.inner = self.ahead = None
