"""Batches in an order that can be taken up again: the user's loader, read so that its position can be saved.

The order is the sampler's own, drawn as PyTorch draws it, so a plain `for batch in loader` with the same seed gives
the same batches. To go on in the middle of an epoch, the generators are put back to where they were before it, the
order is drawn again, and indices (not samples) are skipped.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any, TypeVar

import torch
from torch.utils import data
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from lightkit.data import generators
from lightkit.data.fetch import Fetch
from lightkit.data.lengths import check_loader, length_of, limited
from lightkit.data.rows import row_order
from lightkit.errors import DataError
from lightkit.seeding import Snapshot, isolate_rng, key_rng, mix, restore_rng

T = TypeVar("T")


# "rng", "generators": those of the process, a Snapshot or plain, and those of the loader
Moment = dict[str, Any]
# what `reopen` needs: "before", a Moment, None between epochs; "generators"; "loader", its own state where it has one;
# where indices are drawn here "first_seed", "epochs_opened"
SourceState = dict[str, Any]


class Source:
    """Any iterable of batches. Skipping draws and drops batches. name: of the loader, for messages."""

    runs_ahead = False  # the sampler is ahead of the training
    tells_copies = False  # workers that stay hear of epochs

    def __init__(self, loader: Any, name: str = "the loader"):
        self.loader, self.name = loader, name
        self.told_epoch: int | None = None
        self.listeners: list[Any] | None = None  # who wants to know it
        self.running: weakref.ref[Iterator[Any]] | None = None  # the iterator of the last epoch
        self.before: Moment | None = None  # generators as they were before the running epoch

    def own_generators(self) -> generators.States:
        """The state of the generators that the loader, its samplers and its data set hold, by their place."""
        return generators.capture(self.loader)

    def restore_own_generators(self, states: generators.States | None) -> None:
        """Put them back; None: leave them."""
        if states:
            from lightkit.data.generator_states import restore

            restore(self.loader, states)

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers, and an iterable data set, that want to know (DistributedSampler's protocol), once an epoch."""
        if epoch == self.told_epoch:
            return  # it was opened ahead, or is validated once more
        self.told_epoch = epoch
        if self.listeners is None or not isinstance(self.loader, DataLoader):  # which keeps its samplers
            self.listeners = self._with_epochs()
        for target in self.listeners:
            target.set_epoch(epoch)

    def _with_epochs(self) -> list[Any]:
        """The loader, its samplers, those inside of them, and an iterable data set, where they have `set_epoch`."""
        found: list[Any] = [self.loader]
        for holder in found:  # grows while it is walked
            parts = [getattr(holder, name, None) for name in ("sampler", "batch_sampler")]
            found += [part for part in parts if part is not None and all(part is not known for known in found)]
        if isinstance(dataset := getattr(self.loader, "dataset", None), IterableDataset):
            found.append(dataset)
            if hasattr(dataset, "set_epoch") and isinstance(self.loader, DataLoader) and not self.tells_copies:
                self._warn_of_copies(dataset)
        return [target for target in found if callable(getattr(target, "set_epoch", None))]

    def _warn_of_copies(self, dataset: object) -> None:
        if self.loader.num_workers > 0 and self.loader.persistent_workers:
            warnings.warn(
                f"{self.name} ({type(self.loader).__name__}): workers that stay have copies of "
                f"{type(dataset).__name__}, which are not told the epoch; give persistent_workers=False",
                stacklevel=2,
            )

    def parts(self) -> list[Source]:
        """The sources that read one loader each: this one, where it does."""
        return [self]

    def lengths(self) -> list[float]:
        """How many batches each loader has now, inf where it cannot say."""
        return [length_of(self.loader)]

    def limited(self, limit: int | float, argument: str) -> float:
        """How many batches of an epoch are used, of as many as there are now; see `lengths.limited`."""
        return limited(length_of(self.loader), limit, argument, self.name)

    def check(self) -> None:
        """Raise DataError where there are no batches (any more)."""
        check_loader(self.loader, self.name)

    def open(self, *, remember: bool = True) -> Iterator[Any]:
        """Begin an epoch; an evaluation, which is never taken up in its middle, need not remember the generators."""
        self.before = self._capture() if remember else None
        return self._iterate(0)

    def reopen(self, state: SourceState, skip: int) -> Iterator[Any]:
        """Take up an epoch after `skip` batches; the caller restores the process's generators afterwards.

        Raises CheckpointError where the epoch was one of several loaders.
        """
        if "children" in state:
            from lightkit.data.combined import other_loaders

            raise other_loaders(self.name, "one loader", state)
        self.before = before = state["before"]
        restore_rng(before["rng"])
        self.restore_own_generators(before["generators"])
        batches = self._iterate(skip, state)
        if not self.runs_ahead:
            self.restore_own_generators(state["generators"])
        return batches

    def open_ahead(self, epoch: int) -> None:
        """Begin the next epoch's work early, where that changes nothing; `open` goes on with it."""

    def close(self) -> None:
        """The epoch is over."""
        self.before = None

    def release(self, *, has_failed: bool = False) -> None:
        """The run is over: end worker processes, also where somebody (a traceback) still holds their iterator.

        Those that stay between the epochs of the user's own loader are the user's, unless the run failed.
        """
        batches = self.batches()
        is_kept = batches is not None and getattr(self.loader, "_iterator", None) is batches
        if is_kept and not has_failed:
            return
        if isinstance(batches, GeneratorType):
            if has_failed and batches is not self.loader:  # what it iterates over is in its frame
                batches.close()
        elif (end := getattr(batches, "_shutdown_workers", None)) is not None:
            from lightkit.data.workers import end_left

            end()
            end_left(batches)
            if is_kept:
                self.loader._iterator = None  # else it would wait for batches of workers that have ended
        self.running = None

    def batches(self) -> Iterator[Any] | None:
        """The iterator of the last epoch, while it is there."""
        return self.running() if self.running is not None else None

    def state_dict(self) -> SourceState:
        """What `reopen` needs: see SourceState."""
        # where indices are drawn ahead of the training, drawing them again leaves the generators right
        now = None if self.runs_ahead and self.before is not None else self.own_generators()
        before = self.before
        if before is not None and isinstance(before["rng"], Snapshot):
            before = {"rng": before["rng"].plain(), "generators": before["generators"]}
        return {"before": before, "generators": now, "loader": None}

    def moving_state(self) -> SourceState | None:
        """Its state where a batch moves it for good; None: generators are all that a batch moves."""
        return None

    def load_between_epochs(self, state: SourceState) -> None:
        """Go on after an epoch that was complete."""
        self.restore_own_generators(state["generators"])

    def _capture(self) -> Moment:
        return {"rng": Snapshot(), "generators": self.own_generators()}

    def _restore_first(self, state: SourceState | None) -> None:
        """Beside other loaders, the first batch was asked for when these were opened, too."""
        if state is not None and (first := state.get("first")) is not None:
            restore_rng(first["rng"])
            self.restore_own_generators(first["generators"])

    def _iterate(self, skip: int, state: SourceState | None = None) -> Iterator[Any]:
        batches = self._begin()
        self._restore_first(state)
        for done in range(skip):
            if next(batches, self) is self:
                raise DataError(ended_early(done, skip))
        return batches

    def _begin(self) -> Iterator[Any]:
        """The loader's own next epoch."""
        return self._follow(iter(self.loader))

    def _follow(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same; what may hold processes is remembered, and not kept alive."""
        with contextlib.suppress(TypeError):  # iterators of Python's own take no weak reference, and hold none
            self.running = weakref.ref(batches)
        return batches


def ended_early(done: int, skip: int) -> str:
    """What is said where an epoch that is to be taken up has too few batches."""
    return (
        f"resuming: the training loader ended after {done} batches, the checkpoint was taken after {skip} of this "
        "epoch; the data is not what it was"
    )


def _all_at_once(order: Iterator[T]) -> Iterator[T]:
    yield from list(itertools.islice(order, 2))  # the last batch, and the end
    yield from order  # more than the length said


def _in_order(loader: DataLoader[Any]) -> Iterable[Any]:
    """Batches in the data set's order, of the loader's size; a batch sampler without a size keeps its own order."""
    plain = SequentialSampler(loader.dataset)  # type: ignore[arg-type]
    if loader.batch_sampler is None:
        return plain
    size = getattr(loader.batch_sampler, "batch_size", None)
    if not isinstance(size, int):
        return loader.batch_sampler
    return BatchSampler(plain, size, bool(getattr(loader.batch_sampler, "drop_last", False)))


class IndexedSource(Source):
    """A DataLoader over a map-style data set: its indices are drawn here, its batches fetched here.

    WorkerSource is the one with worker processes.
    """

    loader: DataLoader[Any]

    def __init__(
        self, loader: DataLoader[Any], name: str = "the loader", *, is_keyed: bool = False,
        is_sequential: bool = False, is_training: bool = True,
    ):  # fmt: skip
        super().__init__(loader, name)
        self.is_training = is_training
        is_batched = loader.batch_sampler is not None
        self.fetch = Fetch(loader.dataset, loader.collate_fn, is_batched)
        # reading rows of tensors draws nothing, so there is nothing to key
        self.is_keyed = is_keyed and (self.fetch.tensors is None or loader.num_workers > 0)
        self.sampler: Iterable[Any] = loader.batch_sampler if is_batched else loader.sampler  # type: ignore[assignment]
        if is_sequential:
            self.sampler = _in_order(loader)
        self.first_seed: int | None = None
        self.epochs_opened = 0
        self.rows = self._find_rows()
        self.found: tuple[list[object], dict[str, object]] | None = None

    def own_generators(self) -> generators.States:
        """As Source.own_generators; a plain loader of tensors is looked through once."""
        if self.rows is None:
            return super().own_generators()
        samplers = self.loader.sampler, getattr(self.loader.batch_sampler, "sampler", None)
        places = [self.loader.generator, *(getattr(sampler, "generator", None) for sampler in samplers)]
        if self.found is None or self.found[0] != places:
            self.found = places, generators.find(self.loader)
        return generators.states(self.found[1])

    def watch(self, sampler: Iterable[Any]) -> None:
        """Ask this from the next epoch on, which asks the sampler."""
        self.sampler = sampler

    def _find_rows(self) -> Callable[[], Iterator[Any]] | None:
        """The order by rows, where there is one; anew for each epoch, as batches may grow and data may change."""
        self.fetch.look()
        tensors = self.fetch.tensors
        return row_order(self.sampler, tensors) if tensors is not None else None

    def _draw(self) -> int:
        return int(torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator).item())

    def _iterate(self, skip: int, state: SourceState | None = None) -> Iterator[Any]:
        self.rows = self._find_rows()
        order, seed = self._draw_order()
        self._restore_first(state)
        order = self._to_the_end(order)
        for _ in itertools.islice(order, skip):
            pass
        if state is not None and skip == 0:  # saved in the first batch: what is drawn with it comes before the restore
            order = itertools.chain(list(itertools.islice(order, 1)), order)
        return self._fetched(order, seed, skip)

    def _draw_order(self) -> tuple[Iterator[Any], int]:
        """The order and the base seed of the epoch, drawn where and when PyTorch draws them."""
        order = iter(self.sampler) if self.rows is None else self.rows()
        seed = self._draw()
        self.epochs_opened += 1
        return order, seed

    def _fetched(self, order: Iterator[Any], seed: int, skip: int) -> Iterator[Any]:
        """The batches of this order, of which the first comes `skip` batches after the epoch's beginning."""
        return self._keyed(order, seed, skip) if self.is_keyed else map(self.fetch, order)

    def _to_the_end(self, order: Iterator[Any]) -> Iterator[Any]:
        """The same order; with the last batch the sampler is asked for one more, as a `for` loop and workers do.

        RandomSampler draws a permutation there, which moves a generator of the user's.
        """
        try:
            before_last = max(len(self.sampler) - 1, 0)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return order
        return itertools.chain(itertools.islice(order, before_last), _all_at_once(order))

    def _keyed(self, order: Iterator[Any], seed: int, skip: int) -> Iterator[Any]:
        for index, indices in enumerate(order, skip):
            with isolate_rng():
                key_rng(mix(seed, index))
                batch = self.fetch(indices)
            yield batch

    def reopen(self, state: SourceState, skip: int) -> Iterator[Any]:
        """As Source.reopen; the seeds of workers that stay go on where they were."""
        self.epochs_opened = state.get("epochs_opened", 1) - 1
        self.first_seed = state["first_seed"] if self.epochs_opened > 0 else None  # the first epoch draws it again
        return super().reopen(state, skip)

    def state_dict(self) -> SourceState:
        return {**super().state_dict(), "first_seed": self.first_seed, "epochs_opened": self.epochs_opened}

    def load_between_epochs(self, state: SourceState) -> None:
        self.first_seed, self.epochs_opened = state["first_seed"], state["epochs_opened"]
        super().load_between_epochs(state)


def make_source(
    loader: Any, name: str = "the loader", *, is_keyed: bool, is_sequential: bool = False, is_training: bool = True
) -> Source:
    """Choose how a loader is read, one that was checked (see `sources_of`). name: for messages.

    is_keyed: batches' random state is keyed also without workers (after `seed_everything(seed, workers=True)`).
    is_sequential: in order, whatever the sampler says (`overfit_batches`).
    is_training: its epochs follow on one another; those of an evaluation each begin from the same generators.
    """
    is_plain = isinstance(loader, DataLoader) and all(
        getattr(type(loader), name) is getattr(DataLoader, name) for name in ("__iter__", "_get_iterator")
    )
    if is_plain and not isinstance(loader.dataset, IterableDataset):
        kind: type[IndexedSource] = IndexedSource
        # memory is pinned by a thread of a loader's own
        if loader.num_workers > 0 or (loader.pin_memory and torch.cuda.is_available() and not is_keyed):
            from lightkit.data.worker_source import WorkerSource

            kind = WorkerSource
        return kind(loader, name, is_keyed=is_keyed, is_sequential=is_sequential, is_training=is_training)
    if is_plain and loader.num_workers > 0 and not isinstance(loader.dataset, data.IterDataPipe):
        from lightkit.data.streams import StreamSource

        return StreamSource(loader, name)
    if all(callable(getattr(loader, method, None)) for method in ("state_dict", "load_state_dict")):
        from lightkit.data.own_state import StatefulSource

        return StatefulSource(loader, name)
    return Source(loader, name)
